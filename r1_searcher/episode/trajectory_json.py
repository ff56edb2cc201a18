"""Trajectories as JSON: the lines of a run's `trajectories` folder, and what a reward server is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SearchRecord, Span, SpanKind, StopReason, Trajectory


def to_mapping(trajectory: Trajectory, *, with_ids: bool = True) -> dict[str, Any]:
    """A JSON object with everything that the trajectory holds.

    Without ids (and log-probs) it is what a reward needs, and a tenth of the size.
    """
    row = trajectory.row
    mapping: dict[str, Any] = {
        "row": {**vars(row), "answers": list(row.answers), "titles": list(row.titles)},
        "spans": [[span.kind.value, span.start, span.end, span.text] for span in trajectory.spans],
        "stop_reason": trajectory.stop_reason.value,
        "answer": trajectory.answer,
        "searches": [dict(vars(search)) for search in trajectory.searches],
        "seconds": round(trajectory.seconds, 4),
        "engine_seconds": round(trajectory.engine_seconds, 4),
    }
    if with_ids:
        mapping["ids"] = list(trajectory.ids)
        if trajectory.logprobs is not None:
            mapping["logprobs"] = [round(value, 5) if value else 0.0 for value in trajectory.logprobs]
    return mapping


def from_mapping(mapping: Mapping[str, Any]) -> Trajectory:
    """The trajectory again. Raises `ValueError` or `KeyError` where the object is not one of ours."""
    logprobs = mapping.get("logprobs")
    return Trajectory(
        row=QARow.from_mapping(mapping["row"]),
        ids=tuple(mapping.get("ids", ())),
        spans=tuple(Span(SpanKind(kind), start, end, text) for kind, start, end, text in mapping["spans"]),
        stop_reason=StopReason(mapping["stop_reason"]),
        answer=mapping["answer"],
        searches=tuple(_search(search) for search in mapping.get("searches", ())),
        logprobs=None if logprobs is None else tuple(logprobs),
        seconds=float(mapping.get("seconds", 0.0)),
        engine_seconds=float(mapping.get("engine_seconds", 0.0)),
    )


def _search(mapping: Mapping[str, Any]) -> SearchRecord:
    tuples = {key: tuple(mapping[key]) for key in ("passage_ids", "shown_ids", "scores")}
    return SearchRecord(**{**mapping, **tuples})
