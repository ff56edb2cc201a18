"""Score predictions: `python -m eval.score FILE [--json OUT]`.

Reads the lines of `eval.run`, an evaluation's folder, and the published form (question, answer, pred_ans, judge).
Without a name beside it, a number is R1-Searcher's; all variants stand beside them, with intervals
over questions, which say nothing about other seeds of the training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.results.predictions import by_decoding, predictions_file, read_predictions
from eval.results.scores import Scores, percent, percent_with_interval, provenance_beside
from eval.results.summary import summarize
from eval.results.variants import DEFAULT_METRICS, VARIANTS
from foundation.cli import OneLineParser, check_output, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.text_table import format_table


def score_file(path: Path) -> dict[str, dict[str, Any]]:
    """The block of scores of each way of sampling, in order of first appearance.

    Raises:
        InputError: the file cannot be read, or every episode of a decoding failed.
    """
    groups = by_decoding(read_predictions(path))
    for decoding, records in groups.items():
        if all(record.failed for record in records):
            raise InputError(f"none of {len(records)} {decoding} predictions can be scored: every one failed")
    return {decoding: summarize(records) for decoding, records in groups.items()}


def _table(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [["n", *(str(block["n"]) for block in blocks.values())]]
    for name in VARIANTS:
        means = [(block["metrics"][name], block["metrics_interval_95"][name]) for block in blocks.values()]
        lines.append([f"{name} %", *(percent_with_interval(mean, interval) for mean, interval in means)])
    judged = [block.get("judge") for block in blocks.values()]
    if any(judged):
        lines.append(["judge % (of n)", *map(_judge_cell, judged)])
    return format_table(["metric [95 % over questions]", *blocks], lines)


def _judge_cell(judge: Mapping[str, Any] | None) -> str:
    return f"{percent_with_interval(judge['accuracy'], judge['interval_95'])} ({judge['n']})" if judge else "-"


def _groups_table(block: Mapping[str, Any]) -> str:
    groups = {**block["by_dataset"], **{f"{hops} hops": group for hops, group in block["by_hops"].items()}}
    lines = [
        [name, str(group["n"]), *(percent(group[key]) for key in DEFAULT_METRICS)] for name, group in groups.items()
    ]
    return format_table(["group", "n", "EM %", "cover-EM %", "F1 %"], lines) if lines else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("eval.score", lambda: _run(options.file, options.json))


def _run(file: Path, output: Path | None) -> None:
    check_output(output)
    blocks = score_file(file)
    first = next(iter(blocks.values()))
    print("\n\n".join(filter(None, (_table(blocks), _groups_table(first)))))
    if output is not None:
        Scores(blocks, provenance_beside(predictions_file(file))).write(output)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.score", description=__doc__)
    parser.add_argument("file", type=Path, help="predictions.jsonl of eval.run (or its folder), or the published form")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores, as fractions, to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
