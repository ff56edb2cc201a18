"""Compare runs on the same questions: `python -m eval.compare A B [C ...] [--metric f1] [--json OUT]`.

A run is a folder of `eval.run`, its predictions, or a file in the published form. Differences are paired; their
intervals are over questions and say nothing about other seeds of the training. Whatever else differs between the runs
(corpus, index, top-k, limits, decoding, versions) is a warning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from eval.results.comparison import ComparedFile, Comparison
from eval.results.scores import percent, percent_with_interval
from foundation.cli import OneLineParser, check_output, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import write_json
from foundation.text_table import format_table


def compare(paths: Sequence[Path], metric: str, decoding: str | None) -> dict[str, Any]:
    """Everything about the runs; what `--json` writes.

    Raises:
        InputError: fewer than two runs, or one that cannot be read or compared.
    """
    if not 2 <= len(paths) <= len(ascii_uppercase):
        raise InputError(f"expected 2 to {len(ascii_uppercase)} runs, found {len(paths)}")
    runs = [ComparedFile.read(label, path, decoding) for label, path in zip(ascii_uppercase, paths, strict=False)]
    comparison = Comparison.of(runs, metric)
    return {
        "metric": metric,
        "n": len(comparison.keys),
        "runs": [comparison.summary(run) for run in runs],
        "pairs": [comparison.pair(first, second) for first, second in combinations(runs, 2)],
        "warnings": comparison.warnings(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("eval.compare", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    check_output(options.json)
    content = compare(options.runs, options.metric, options.decoding)
    print(report(content))
    if options.json:
        write_json(options.json, content)


def report(content: Mapping[str, Any]) -> str:
    """The comparison as text."""
    blocks = [
        "\n".join(f"{run['label']} = {run['path']}" for run in content["runs"]),
        f"{content['n']} common questions; intervals are over questions, not over seeds of the training",
        _runs_table(content["runs"]),
        _pairs_table(content["pairs"], content["metric"]),
        _searches_table(content["runs"], content["metric"]),
        "\n".join(f"warning: {line}" for line in content["warnings"]),
    ]
    return "\n\n".join(block for block in blocks if block)


def _runs_table(runs: Sequence[Mapping[str, Any]]) -> str:
    metrics = list(runs[0]["scores"])
    header = ["run", *(f"{metric} % [95 %]" for metric in metrics), "searches", "tokens written", "tokens read"]
    lines = []
    for run in runs:
        scores = [percent_with_interval(run["scores"][metric], run["interval_95"][metric]) for metric in metrics]
        costs = [_number(run[name]) for name in ("searches", "action_tokens", "document_tokens")]
        lines.append([run["label"], *scores, *costs])
    return format_table(header, lines)


def _pairs_table(pairs: Sequence[Mapping[str, Any]], metric: str) -> str:
    header = ["difference", "points [95 %]", "p", f"wins ({metric})", "losses", "ties"]
    lines = []
    for pair in pairs:
        counts = [str(len(pair["wins"])), str(len(pair["losses"])), str(pair["ties"])]
        for name, found in pair["difference"].items():
            label = f"{pair['second']} - {pair['first']}, {name}"
            points = percent_with_interval(found["mean"], found["interval_95"])
            lines.append([label, points, f"{found['p_value']:.3f}", *(counts if name == metric else [""] * 3)])
    return format_table(header, lines)


def _searches_table(runs: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Accuracy against searches: one line per number of searches."""
    counts = sorted({int(count) for run in runs for count in run["by_searches"]})
    lines = []
    for count in counts:
        groups = [run["by_searches"].get(str(count)) for run in runs]
        lines.append([str(count), *(f"{percent(group[metric])} ({group['n']})" if group else "-" for group in groups)])
    header = ["searches", *(f"{run['label']}: {metric} % (n)" for run in runs)]
    return format_table(header, lines) if lines else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="two or more runs; differences are later minus earlier")
    parser.add_argument(
        "--metric", default="f1", help="metric of wins and losses: em, cover_em, f1, judge, or a full name"
    )
    parser.add_argument("--decoding", metavar="NAME", help="which way of sampling (default: each file's first)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything, also the questions, to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
