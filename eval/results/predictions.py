"""The records of a file of predictions: of an evaluation, of a training log, or of the published form.

`eval.judge` keeps what it was told about a file beside it; its verdicts become part of the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from eval.results.folder import EvaluationFolder
from foundation.errors import InputError
from foundation.json_lines import read_strict
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE
from r1_searcher.reward.judge import Case, read_verdicts
from r1_searcher.run.episode_record import EpisodeRecord, read_any_line

UNNAMED = "score"
"""Decoding of records that name none, as those of the published form."""


def predictions_file(path: Path) -> Path:
    """The file itself, or that of an evaluation's folder."""
    return EvaluationFolder(path).predictions_file if path.is_dir() else path


def read_predictions(path: Path) -> list[EpisodeRecord]:
    """The predictions of a file, or of an evaluation's folder, without tokens.

    Raises:
        InputError: the file is missing or empty, or a line cannot be read (with its number).
    """
    path = predictions_file(path)
    if not path.is_file():
        raise InputError(f"predictions not found: {path} (expected a JSONL file)")
    verdicts = _verdicts_beside(path)
    parse = partial(read_any_line, protocol=R1_SEARCHER_BASE, needs="pred_ans")
    records = [_with_verdict(record.without_tokens, verdicts) for record in read_strict(path, parse, growing=True)]
    if not records:
        raise InputError(f"no predictions in {path}")
    return records


def verdicts_file(predictions: Path) -> Path:
    """The file in which `eval.judge` keeps the verdicts on a file of predictions."""
    return predictions.with_suffix(".verdicts.jsonl")


def _verdicts_beside(path: Path) -> Mapping[Case, bool | None]:
    """The last verdict of each case; a file that several judges wrote says who is right by who came last."""
    return {kept.case: kept.verdict.correct for kept in read_verdicts(verdicts_file(path))}


def _with_verdict(record: EpisodeRecord, verdicts: Mapping[Case, bool | None]) -> EpisodeRecord:
    """The record with the verdict beside it; no answer is wrong, and nobody is asked about it."""
    if record.judged is not None or not verdicts:
        return record
    case = record.case
    return replace(record, judged=False if case is None else verdicts.get(case))


def by_decoding(records: Iterable[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """The records of each way of sampling, in order of their first appearance."""
    groups: dict[str, list[EpisodeRecord]] = {}
    for record in records:
        groups.setdefault(record.decoding or UNNAMED, []).append(record)
    return groups
