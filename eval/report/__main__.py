"""Write a report: `python -m eval.report DIR [DIR ...] [--out FILE]`.

DIR is a training run, an evaluation, or a folder that holds some of them (the quickstart's). The file opens in any
current browser, without a network. It is of what is there now: for a run in progress, make it again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.report.page import build_report
from eval.report.runs import find_runs, told_apart
from eval.report.tokens import TokenTexts, tokens_of
from foundation.cli import OneLineParser, check_output, positive, run_command
from foundation.files import write_whole
from r1_searcher.recipe.plugins import add_plugin_option

EPISODES = 10_000
"""Episodes of a report at most, unless the user says otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    return run_command("eval.report", lambda: _write(options))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.report", description=__doc__, allow_abbrev=False)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a training, an evaluation, or several")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: report.html in the first DIR)"
    )
    add_plugin_option(parser)
    tokenizer = "model folder, to show single tokens; default: the model that a training in DIR has left"
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help=tokenizer)
    sample = f"of more, an even sample is shown (default {EPISODES})"
    parser.add_argument("--max-episodes", type=positive, default=EPISODES, metavar="N", help=sample)
    return parser


def _write(options: argparse.Namespace) -> None:
    folders = [folder.resolve() for folder in options.folders]
    runs = find_runs(folders)
    out = options.out or folders[0] / "report.html"
    check_output(out)
    tokens = TokenTexts.load(options.tokenizer) if options.tokenizer else tokens_of(runs)
    title = " and ".join(told_apart(dict.fromkeys(folders, 1)).values())
    report = build_report(runs, title, limit=options.max_episodes, tokens=tokens)
    write_whole(out, report.html)
    of_all = "" if report.episodes == report.available else f" of {report.available}"
    print(f"{out}: {report.episodes}{of_all} episodes, {len(report.html) / 1e6:.1f} MB")
    if report.unreadable:
        print(f"eval.report: {report.unreadable} lines are no episodes and were left out", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
