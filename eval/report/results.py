"""The scores of evaluations side by side, with their intervals: before and after."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.chains import Chain
from eval.report.runs import ReportedRun, RunKind
from eval.results.predictions import by_decoding
from eval.results.summary import FAILURES, SCORES, summarize
from r1_searcher.run.episode_log import read_episode_lines
from r1_searcher.run.episode_record import EpisodeRecord, read_line


@dataclass(frozen=True)
class Column:
    """One score of the table."""

    score: str
    title: str
    rate: bool = True


COLUMNS = (
    Column("f1", "F1"),
    Column("em", "EM"),
    Column("cover_em", "Cover-EM"),
    Column("retrieval_rate", "Retrieval"),
    Column("format_rate", "Format"),
    Column("searches_per_question", "Searches", rate=False),
)


def results(runs: Sequence[ReportedRun], chains: Sequence[Chain]) -> dict[str, Any]:
    """The table as JSON: a line per evaluation and decoding, in the order of the training.

    A line's `chain` is the first one that has its model; null for a model that no training has made or begun with.
    """
    places: dict[str, tuple[int, int]] = {}
    for number, chain in enumerate(chains):
        for placed in chain.evaluations:
            places.setdefault(placed.evaluation.name, (number, placed.step))
    evaluations = [run for run in runs if run.kind is RunKind.EVALUATION]
    evaluations.sort(key=lambda run: (*places.get(run.name, (len(chains), 0)), run.name))
    return {
        "columns": [vars(column) for column in COLUMNS],
        "lines": [
            {**line, "chain": places[run.name][0] if run.name in places else None}
            for run in evaluations
            for line in _lines(run)
        ],
    }


def _lines(run: ReportedRun) -> list[dict[str, Any]]:
    blocks = run.scores.blocks if run.scores is not None else _scores_so_far(run)
    return [
        {
            "name": run.name,
            "decoding": decoding,
            "n": block["n"],
            "asked": run.settings.get("questions"),
            "complete": run.is_complete,
            "errors": sum(block.get(name, 0) for name in FAILURES),
            "scores": {name: block[name] for name in SCORES if name in block},
            "intervals": block.get("interval_95", {}),
            "by_hops": {hops: {"n": group["n"], "f1": group["f1"]} for hops, group in block["by_hops"].items()},
        }
        for decoding, block in blocks.items()
    ]


def _scores_so_far(run: ReportedRun) -> dict[str, Any]:
    """The summary of an evaluation in progress, by decoding; nothing where no question can be scored yet."""
    records: list[EpisodeRecord] = []
    for file in run.episode_files:
        for line in read_episode_lines(file):
            with contextlib.suppress(KeyError, ValueError, TypeError):  # counted where the episodes are listed
                records.append(read_line(line).without_tokens)
    groups = by_decoding(records).items()
    return {name: summarize(group) for name, group in groups if not all(record.failed for record in group)}
