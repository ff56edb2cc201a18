"""The records of a file of predictions: of an evaluation, of a training log, or of the published form.

`eval.judge` keeps its verdicts on a file next to it; they become part of the records.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.results.folder import EvaluationFolder
from foundation.errors import InputError
from foundation.json_lines import read_strict
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE
from r1_searcher.reward.judge import Case, read_verdicts
from r1_searcher.run.episode_record import EpisodeRecord, form_of, read_any_line

logger = logging.getLogger(__name__)

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
    found = read_records(path, R1_SEARCHER_BASE, needs="pred_ans")
    records = [_with_verdict(record, verdicts) for record in found]
    if not records:
        raise InputError(f"no predictions in {path}")
    return records


def read_records(path: Path, protocol: Protocol, *, needs: str) -> Iterator[EpisodeRecord]:
    """Every line of a file without its tokens; at the end the log says what the lines were taken for.

    Args:
        protocol, needs: as `read_any_line` takes them.

    Raises:
        InputError: a line cannot be read (with its number).
    """
    forms: Counter[str] = Counter()

    def parse(line: Mapping[str, Any]) -> EpisodeRecord:
        record = read_any_line(line, protocol, needs=needs)
        forms[form_of(line)] += 1
        return record.without_tokens

    yield from read_strict(path, parse, growing=True)
    counted = "; ".join(f"{form}, {count:,} of them" for form, count in forms.items())
    if counted:
        logger.info("%s: read as %s", path, counted)


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
