"""The scores of evaluations side by side, with their intervals: before and after."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.chains import Chain
from eval.report.sources import Source, SourceKind
from eval.results.summary import SCORES, Outcome, summarize
from foundation.errors import RunAborted
from r1_searcher.run.episode_log import read_episodes


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


def results(sources: Sequence[Source], chains: Sequence[Chain]) -> dict[str, Any]:
    """The table as JSON: a line per evaluation and decoding, in the order of the training."""
    places = {
        placed.evaluation.name: (number, placed.step)
        for number, chain in enumerate(chains)
        for placed in chain.evaluations
    }
    evaluations = [source for source in sources if source.kind is SourceKind.EVALUATION]
    evaluations.sort(key=lambda source: (*places.get(source.name, (len(chains), 0)), source.name))
    return {
        "columns": [vars(column) for column in COLUMNS],
        "lines": [line for source in evaluations for line in _lines(source)],
    }


def _lines(source: Source) -> list[dict[str, Any]]:
    blocks = source.scores or _scores_so_far(source)
    return [
        {
            "name": source.name,
            "decoding": decoding,
            "n": block["n"],
            "asked": source.settings.get("questions"),
            "complete": source.is_complete,
            "errors": block.get("retriever_errors", 0),
            "scores": {name: block[name] for name in SCORES if name in block},
            "intervals": block.get("interval_95", {}),
            "by_hops": {hops: {"n": group["n"], "f1": group["f1"]} for hops, group in block["by_hops"].items()},
        }
        for decoding, block in blocks.items()
        if isinstance(block, Mapping) and "f1" in block
    ]


def _scores_so_far(source: Source) -> dict[str, Any]:
    """The summary of an evaluation in progress, by decoding; nothing where no question can be scored yet."""
    outcomes: dict[str, list[Outcome]] = {}
    for file in source.episode_files:
        for line in read_episodes(file):
            with contextlib.suppress(KeyError, ValueError, TypeError):  # counted where the episodes are listed
                outcomes.setdefault(line["decoding"], []).append(Outcome.from_line(line))
    scores = {}
    for decoding, found in outcomes.items():
        try:
            scores[decoding] = summarize(found)
        except RunAborted:  # every search failed so far
            continue
    return scores
