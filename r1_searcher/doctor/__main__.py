"""Examine a set-up before training: `python -m r1_searcher.doctor --recipe NAME --model DIR_OR_NAME …`.

One line per check: ok, warning or FAILED, what was seen, and what to do. Status 0 where nothing failed, else 2.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import BAD_INPUT, DONE, OneLineParser, run_command
from r1_searcher.doctor.checks import CHECKS, ENGINE, examine
from r1_searcher.doctor.finding import Level
from r1_searcher.doctor.subject import SAMPLE_ROW, Subject, load_subject
from r1_searcher.episode.question import read_rows
from r1_searcher.recipe.options import add_recipe_options, add_search_options, changed_recipe
from r1_searcher.recipe.recipe import RECIPES, find_recipe


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="r1_searcher.doctor", description=__doc__, allow_abbrev=False)
    add_recipe_options(parser, RECIPES)
    add_search_options(parser, without="not given: it is not examined")
    parser.add_argument("--model", required=True, help="model folder, or its name on the hub")
    parser.add_argument("--data", type=Path, help="JSONL of questions whose prompts are examined, all of them")
    parser.add_argument("--engine", action="store_true", help="also start vLLM and sample some turns")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, like a check that failed."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    options = _parser().parse_args(argv)
    return run_command("r1_searcher.doctor", lambda: _examine(options))


def _examine(options: argparse.Namespace) -> int:
    levels = []
    for name, finding in examine(_subject(options), (*CHECKS, ENGINE) if options.engine else CHECKS):
        print(finding.line(name), flush=True)
        levels.append(finding.level)
    return BAD_INPUT if Level.FAILED in levels else DONE


def _subject(options: argparse.Namespace) -> Subject:
    recipe = changed_recipe(find_recipe(options.recipe), options)
    rows = read_rows(options.data) if options.data else [SAMPLE_ROW]
    return load_subject(recipe, options.model, rows=rows, search=options.search or "")


if __name__ == "__main__":
    sys.exit(main())
