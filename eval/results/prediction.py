"""One answered question as scoring, judging and comparing see it: our own rows, and the published form.

The published form (R1-Searcher's) is a line with `question`, `answer`, `pred_ans`, and maybe `completion`
and `judge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.results.folder import EvaluationFolder
from foundation.errors import InputError
from foundation.jsonl import iter_parsed
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.episode.trajectory_json import from_mapping
from r1_searcher.episode.transcript_import import import_transcript
from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.reward.judge import Case, read_verdicts

_PUBLISHED_PROTOCOL = "r1_searcher.base"


@dataclass(frozen=True)
class Prediction:
    """One question, its answers, what was predicted, and what it cost."""

    row: QARow
    found: str | None
    """None: no answer was given."""
    decoding: str = ""
    """Name of the way of sampling; empty in the published form."""
    judged: bool | None = None
    """The verdict of a judge, in the row or beside the file, where there is one."""
    failed: bool = False
    """Whether the search service failed; such a question is counted and not scored."""
    searches: int | None = None
    action_tokens: int | None = None
    """Tokens that the policy sampled; None where only text is known."""
    document_tokens: int | None = None
    """Tokens that searches put into the context."""

    @property
    def golds(self) -> tuple[str, ...]:
        """Every answer that counts as right."""
        return self.row.answers

    @property
    def case(self) -> Case | None:
        """What a judge is asked; None where no answer was given."""
        if self.found is None or not self.found.strip():
            return None
        return Case(self.row.question, self.golds, self.found)

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Prediction:
        """Read either form.

        Raises:
            ValueError, KeyError, TypeError: saying what is wrong with the line.
        """
        if "spans" in line:
            return cls._from_trajectory(line)
        if "pred_ans" not in line:
            raise ValueError(f"expected 'spans' (eval.run) or 'pred_ans' (published form), found {sorted(line)}")
        row, completion = QARow.from_mapping(line), line.get("completion")
        searches = None
        if isinstance(completion, str):
            searches = import_transcript(completion, row, find_protocol(_PUBLISHED_PROTOCOL)).n_searches
        return cls(row, _text(line["pred_ans"]), judged=_verdict(line.get("judge")), searches=searches)

    @classmethod
    def _from_trajectory(cls, line: Mapping[str, Any]) -> Prediction:
        trajectory = from_mapping(line)
        return cls(
            row=trajectory.row,
            found=_text(trajectory.answer),
            decoding=str(line.get("decoding", "")),
            failed=trajectory.stop_reason is StopReason.RETRIEVER_ERROR,
            searches=trajectory.n_searches,
            action_tokens=trajectory.token_count(SpanKind.ACTION),
            document_tokens=trajectory.token_count(SpanKind.DOCUMENTS),
        )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"a prediction must be a string or null, found {value!r}")


def _verdict(value: object) -> bool | None:
    verdicts = {"true": True, "false": False}
    if value is None or str(value).strip().lower() in verdicts:
        return None if value is None else verdicts[str(value).strip().lower()]
    raise ValueError(f"'judge' must be True or False, found {value!r}")


def predictions_file(path: Path) -> Path:
    """The file itself, or that of an evaluation's folder."""
    return EvaluationFolder(path).predictions_file if path.is_dir() else path


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file, or of an evaluation's folder.

    Raises:
        InputError: the file is missing or empty, or a line cannot be read (with its number).
    """
    path = predictions_file(path)
    if not path.is_file():
        raise InputError(f"predictions not found: {path} (expected a JSONL file)")
    verdicts = _verdicts_beside(path)
    predictions = [_with_verdict(each, verdicts) for each in iter_parsed(path, Prediction.from_line)]
    if not predictions:
        raise InputError(f"no predictions in {path}")
    return predictions


def verdicts_file(predictions: Path) -> Path:
    """Where `eval.judge` keeps what it was told about a file of predictions."""
    return predictions.with_suffix(".verdicts.jsonl")


def _verdicts_beside(path: Path) -> Mapping[Case, bool | None]:
    """The last verdict of each case; a file that several judges wrote says who is right by who came last."""
    return {case: verdict.correct for _, case, verdict in read_verdicts(verdicts_file(path))}


def _with_verdict(prediction: Prediction, verdicts: Mapping[Case, bool | None]) -> Prediction:
    """The prediction with the verdict beside it; none was asked for where no answer was given, which is wrong."""
    if prediction.judged is not None or not verdicts:
        return prediction
    case = prediction.case
    return replace(prediction, judged=False if case is None else verdicts.get(case))


def by_decoding(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    """The predictions of each way of sampling, in order of their first appearance."""
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault(prediction.decoding, []).append(prediction)
    return groups
