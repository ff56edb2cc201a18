"""Score predictions: `python -m eval.score FILE [--json OUT]`.

Reads the lines of `eval.run`, an evaluation's folder, and the published form (question, answer, pred_ans, judge).
Without a name beside it, a number is R1-Searcher's; all variants stand beside them, with bootstrap intervals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.results.bootstrap import intervals
from eval.results.folder import provenance_beside, write_json
from eval.results.prediction import Prediction, by_decoding, predictions_file, read_predictions
from eval.results.table import format_table, percent, percent_with_interval
from eval.results.variants import VARIANTS
from foundation.cli import OneLineParser, check_output, run_command
from foundation.errors import InputError

DEFAULT_METRICS = {"em": "r1_searcher.em", "cover_em": "r1_searcher.cover_em", "f1": "r1_searcher.f1"}
"""Short key -> metric: R1-Searcher's definitions, which a number without a definition means."""


def score_predictions(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Every metric as a fraction: R1-Searcher's under short keys, all of them under their full names.

    Raises:
        InputError: not one prediction can be scored.
    """
    everything = list(predictions)
    scored = [prediction for prediction in everything if not prediction.failed]
    if not scored:
        raise InputError(f"none of {len(everything)} predictions can be scored: every search failed")
    values = np.array([[metric(each.found, each.golds) for metric in VARIANTS.values()] for each in scored])
    limits = dict(zip(VARIANTS, intervals(values.tolist()), strict=True))
    scores = _means(values)
    scores |= {
        "no_answer": sum(each.found is None for each in scored),
        "retriever_errors": len(everything) - len(scored),
        "interval_95": {key: limits[name] for key, name in DEFAULT_METRICS.items()},
        "metrics": dict(zip(VARIANTS, values.mean(axis=0).round(6).tolist(), strict=True)),
        "metrics_interval_95": limits,
        "by_dataset": _groups(scored, values, lambda each: each.row.source),
        "by_hops": _groups(scored, values, lambda each: each.row.hops),
    }
    return scores | _judged(scored)


def _means(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Number of questions, and the mean of each default metric; columns are the variants."""
    means = dict(zip(VARIANTS, values.mean(axis=0).round(6).tolist(), strict=True))
    return {"n": len(values), **{key: means[name] for key, name in DEFAULT_METRICS.items()}}


def _groups(
    scored: Sequence[Prediction], values: np.ndarray[Any, Any], key: Callable[[Prediction], Hashable]
) -> dict[str, Any]:
    """The default metrics of each group; rows without the key (no dataset, no hops) are in none."""
    keys = np.array([str(key(each) or "") for each in scored])
    return {name: _means(values[keys == name]) for name in sorted(set(keys.tolist())) if name}


def _judged(scored: Sequence[Prediction]) -> dict[str, Any]:
    verdicts = [float(each.judged) for each in scored if each.judged is not None]
    if not verdicts:
        return {}
    (interval,) = intervals([[verdict] for verdict in verdicts])
    accuracy = round(sum(verdicts) / len(verdicts), 6)
    return {"judge": {"n": len(verdicts), "accuracy": accuracy, "interval_95": interval}}


def score_file(path: Path) -> dict[str, Any]:
    """Scores of the file's first decoding; those of others are nested under their names."""
    groups = by_decoding(read_predictions(path))
    (first, scores), *others = [(name, score_predictions(group)) for name, group in groups.items()]
    return scores | ({"decoding": first} if first else {}) | dict(others)


def _table(scores: Mapping[str, Any]) -> str:
    blocks = {scores.get("decoding", "score"): scores}
    blocks |= {name: block for name, block in scores.items() if isinstance(block, dict) and "metrics" in block}
    lines = [["n", *(str(block["n"]) for block in blocks.values())]]
    for name in VARIANTS:
        means = [(block["metrics"][name], block["metrics_interval_95"][name]) for block in blocks.values()]
        cells = [percent_with_interval(mean, interval) for mean, interval in means]
        lines.append([f"{name} %", *cells])
    if "judge" in scores:
        judge = scores["judge"]
        lines.append([f"judge % (of {judge['n']})", percent_with_interval(judge["accuracy"], judge["interval_95"])])
    return format_table(["metric [95 % interval]", *blocks], lines)


def _groups_table(scores: Mapping[str, Any]) -> str:
    groups = {**scores["by_dataset"], **{f"{hops} hops": block for hops, block in scores["by_hops"].items()}}
    lines = [
        [name, str(block["n"]), *(percent(block[key]) for key in DEFAULT_METRICS)] for name, block in groups.items()
    ]
    return "\n\n" + format_table(["group", "n", "EM %", "cover-EM %", "F1 %"], lines) if lines else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    return run_command("eval.score", lambda: _run(options.file, options.json))


def _run(file: Path, output: Path | None) -> None:
    check_output(output)
    scores = score_file(file)
    print(_table(scores) + _groups_table(scores))
    if output is not None:
        write_json(output, {**scores, "provenance": provenance_beside(predictions_file(file))})


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.score", description=__doc__)
    parser.add_argument("file", type=Path, help="predictions.jsonl of eval.run (or its folder), or the published form")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores, as fractions, to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
