"""A finished arm of one seed as one line of JSON: what is published, small enough to be committed.

A row says which run it is of (folder, commit, world, base model, settings), what it cost, its training curves and its
scores on the held-out questions. Its episodes stay in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.findings.arms import Arm
from benchmarks.results.numbers import short
from eval.results.folder import EvaluationFolder
from eval.results.predictions import by_decoding, read_predictions
from eval.results.scores import Scores
from foundation.json_lines import JsonLines, read_finished
from r1_searcher.run.metrics_log import metrics_so_far
from r1_searcher.run.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results"
CURVES = ("answer/f1", "answer/em", "format/rate", "retrieval/rate", "retrieval/searches", "tokens/action", "reward")
SCORES = ("n", "retrieval_rate", "format_rate", "em", "cover_em", "f1", "searches_per_question")

Row = Mapping[str, Any]


def curves_of(run: Path) -> dict[str, list[float | None]]:
    """The curves of a training run, by step; empty where there was none."""
    steps = metrics_so_far(RunFolder(run).metrics_file)
    return {name: [short(step.get(name)) for step in steps] for name in CURVES if steps and name in steps[-1]}


def means_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """What a row keeps of the scores of one way of sampling."""
    return {name: short(block[name]) for name in SCORES}


def scores_of(evaluation: Path) -> dict[str, dict[str, Any]]:
    """The scores of each way of sampling, also by hops, and how long answers and episodes are."""
    folder = EvaluationFolder(evaluation)
    records = by_decoding(read_predictions(folder.predictions_file))
    found = {}
    for decoding, block in Scores.read(folder.scores_file).blocks.items():
        answered = [record for record in records[decoding] if not record.failed]
        found[decoding] = {
            **means_of(block),
            "answer_words": short(fmean(len((record.answer or "").split()) for record in answered)),
            "action_tokens": short(fmean(record.metrics["tokens/action"] for record in answered)),
            "f1_by_hops": {hops: short(group["f1"]) for hops, group in block["by_hops"].items()},
            "f1_by_kind": {kind: short(group["f1"]) for kind, group in block["by_dataset"].items()},
        }
    return found


class Rows:
    """The rows in a folder, one file per arm."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder

    def of(self, arm: Arm) -> dict[int, Row]:
        """Seed to the last row that was played with the arm's present settings."""
        return {row["seed"]: row for row in self.all_of(arm) if row["settings"] == arm.digest}

    def all_of(self, arm: Arm) -> Iterable[Row]:
        """Every row of an arm, whatever its settings were."""
        file = self._file(arm)
        return read_finished(file) if file.is_file() else ()

    def add(self, arm: Arm, row: Row) -> None:
        """Append a row. Raises as `JsonLines` does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = JsonLines(self._file(arm))
        lines.append(row)
        lines.close()

    def _file(self, arm: Arm) -> Path:
        return self.folder / f"{arm.name}.jsonl"
