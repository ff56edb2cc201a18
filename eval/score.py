"""Score finished predictions: ``python -m eval.score FILE [--json OUT]``.

Reads the ``predictions.jsonl`` of ``eval.run``, and the form in which R1-Searcher publishes its evaluations
(lines with ``question, answer, pred_ans``, and ``judge`` where a language model has judged the answer).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.folder import write_json
from eval.table import format_table, percent
from r1_searcher.errors import InputError
from r1_searcher.metrics import METRICS
from r1_searcher.question import QARow
from r1_searcher.trajectory import StopReason
from retriever.process import OneLineParser

DEFAULT_METRICS = {"em": "r1_searcher.em", "cover_em": "r1_searcher.cover_em", "f1": "r1_searcher.f1"}
"""Short key -> metric: R1-Searcher's definitions, which a number without a definition means."""


@dataclass(frozen=True)
class Prediction:
    """One question, its answers, and what was predicted."""

    golds: tuple[str, ...]
    found: str | None
    """None: no answer was given."""
    decoding: str = ""
    judged: bool | None = None
    """The verdict of a judge, where there is one."""
    failed: bool = False
    """Whether the search service failed; such a question is counted and not scored."""

    @classmethod
    def from_line(cls, line: object) -> Prediction:
        """Read either form.  Raises ``ValueError`` saying what is wrong with the line."""
        if not isinstance(line, Mapping):
            raise ValueError(f"a line must be a JSON object, found {type(line).__name__}")
        if "spans" in line:
            return cls(
                golds=QARow.from_mapping(line["row"]).answers,
                found=_text(line["answer"]),
                decoding=str(line.get("decoding", "")),
                failed=line["stop_reason"] == StopReason.RETRIEVER_ERROR.value,
            )
        if "pred_ans" not in line:
            raise ValueError(f"expected 'spans' (eval.run) or 'pred_ans' (published form), found {sorted(line)}")
        golds = QARow.from_mapping(line).answers
        return cls(golds=golds, found=_text(line["pred_ans"]), judged=_verdict(line.get("judge")))


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"a prediction must be a string or null, found {value!r}")


def _verdict(value: object) -> bool | None:
    verdicts = {"true": True, "false": False}
    if value is None or str(value).strip().lower() in verdicts:
        return None if value is None else verdicts[str(value).strip().lower()]
    raise ValueError(f"'judge' must be True or False, found {value!r}")


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file.

    Raises:
        InputError: the file is missing or empty, or a line cannot be read (with its number).
    """
    if not path.is_file():
        raise InputError(f"predictions not found: {path} (expected a JSONL file)")
    predictions = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                predictions.append(Prediction.from_line(json.loads(line)))
            except KeyError as error:
                raise InputError(f"{path}, line {number}: key {error} is missing") from error
            except ValueError as error:
                raise InputError(f"{path}, line {number}: {error}") from error
    if not predictions:
        raise InputError(f"no predictions in {path}")
    return predictions


def score_predictions(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Every metric as a fraction: R1-Searcher's under short keys, all of them under their full names."""
    everything = list(predictions)
    scored = [prediction for prediction in everything if not prediction.failed]
    if not scored:
        raise InputError(f"none of {len(everything)} predictions can be scored: every search failed")
    means = {
        name: sum(metric(each.found, each.golds) for each in scored) / len(scored) for name, metric in METRICS.items()
    }
    scores: dict[str, Any] = {"n": len(scored)}
    scores |= {key: round(means[name], 6) for key, name in DEFAULT_METRICS.items()}
    scores |= {
        "no_answer": sum(each.found is None for each in scored),
        "retriever_errors": len(everything) - len(scored),
    }
    scores["metrics"] = {name: round(mean, 6) for name, mean in means.items()}
    verdicts = [each.judged for each in scored if each.judged is not None]
    if verdicts:
        scores["judge"] = {"n": len(verdicts), "accuracy": round(sum(verdicts) / len(verdicts), 6)}
    return scores


def score_file(path: Path) -> dict[str, Any]:
    """Scores of the file's first decoding; those of others are nested under their names."""
    groups: dict[str, list[Prediction]] = {}
    for prediction in read_predictions(path):
        groups.setdefault(prediction.decoding, []).append(prediction)
    (first, scores), *others = [(name, score_predictions(group)) for name, group in groups.items()]
    return scores | ({"decoding": first} if first else {}) | dict(others)


def _table(scores: Mapping[str, Any]) -> str:
    blocks = {scores.get("decoding", "score"): scores}
    blocks |= {name: block for name, block in scores.items() if isinstance(block, dict) and "em" in block}
    lines = [["n", *(str(block["n"]) for block in blocks.values())]]
    for name in METRICS:
        lines.append([f"{name} %", *(percent(block["metrics"][name]) for block in blocks.values())])
    if "judge" in scores:
        lines.append([f"judge % (of {scores['judge']['n']})", percent(scores["judge"]["accuracy"])])
    return format_table(["metric", *blocks], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    try:
        scores = score_file(options.file)
    except InputError as error:
        print(f"eval.score: {error}", file=sys.stderr)
        return 2
    print(_table(scores))
    if options.json:
        write_json(options.json, scores)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.score", description=__doc__)
    parser.add_argument("file", type=Path, help="predictions.jsonl of eval.run, or lines in the published form")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores, as fractions, to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
