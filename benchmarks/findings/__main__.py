"""What the papers found, found again in a tiny world.

    python -m benchmarks.findings list              the findings, their arms, what has been run, what the rest costs
    python -m benchmarks.findings run mask stages   trains and evaluates what is missing, seed by seed
    python -m benchmarks.findings real DIR          stores the trainings of train_scripts/real.sh in DIR
    python -m benchmarks.findings report            writes docs/findings.md from the stored rows

`run` resumes where it stopped, however it ended; `run all` shares the arms that findings have in common.
`--at-once` arms of a seed are played side by side; the output of their commands is in their `output.log`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.findings import real_model
from benchmarks.findings.catalogue import FINDINGS, SEEDS, arms_of, find_findings
from benchmarks.findings.costs import cost_of
from benchmarks.findings.report import PAGE, write_page
from benchmarks.findings.rows import RESULTS, Rows
from benchmarks.findings.runner import AT_ONCE, missing_of, run_all
from eval.phases import PhaseFailed
from foundation.cli import OneLineParser, natural, positive, run_command
from foundation.text_table import format_table


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the status of `run` is that of the command that failed."""
    parser = OneLineParser(prog="benchmarks.findings", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the findings and what they cost")
    running = commands.add_parser("run", help="train and evaluate what is missing")
    running.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(FINDINGS)}, or all")
    running.add_argument(
        "--seeds", type=natural, nargs="+", default=SEEDS, help=f"default: {' '.join(map(str, SEEDS))}"
    )
    running.add_argument(
        "--at-once",
        type=positive,
        default=AT_ONCE,
        help=f"arms of a seed that are played side by side, each on about a core (default: {AT_ONCE}, the cores)",
    )
    running.add_argument("--dry-run", action="store_true", help="say what would be played and what it costs, and stop")
    real = commands.add_parser("real", help="store the trainings of a real model")
    real.add_argument("folder", type=Path, metavar="DIR", help="folder of train_scripts/real.sh")
    reporting = commands.add_parser("report", help="write the page from the stored rows, and its pictures beside it")
    reporting.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help=f"default: docs/{PAGE.name}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the rows; for trials another one")
    options = parser.parse_args(argv)
    return run_command("benchmarks.findings", lambda: _run(options), resumable=True)


def _run(options: argparse.Namespace) -> int | None:
    rows = Rows(options.results)
    if options.command == "list":
        print(table(rows))
    elif options.command == "report":
        write_page(rows, options.page)
    elif options.command == "real":
        print(f"{real_model.store(options.folder, options.results)} rows in {options.results / real_model.FILE_NAME}")
    else:
        findings, seeds = find_findings(options.names), tuple(dict.fromkeys(options.seeds))
        try:
            run_all(arms_of(findings), seeds, rows, at_once=options.at_once, dry_run=options.dry_run)
        except PhaseFailed as failure:
            return failure.status
    return None


def table(rows: Rows) -> str:
    """A line per finding."""
    lines = []
    for finding in FINDINGS.values():
        arms = finding.arms
        left = missing_of(arms, SEEDS, rows)
        done = len(arms) * len(SEEDS) - len(left)
        cost = str(cost_of(left, rows, AT_ONCE)) if left else "nothing"
        lines.append((finding.name, finding.question, str(len(arms)), f"{done}/{len(arms) * len(SEEDS)}", cost))
    return format_table(("finding", "question", "arms", "runs stored", "the rest takes"), lines)


if __name__ == "__main__":
    sys.exit(main())
