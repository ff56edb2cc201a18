"""Examine a set-up before training: `python -m r1_searcher.doctor --recipe NAME --model DIR_OR_NAME …`.

One line per check: ok, warning or FAILED, what was seen, and what to do. Status 0 where nothing failed, else 2.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foundation.cli import BAD_INPUT, DONE, OneLineParser, run_command
from r1_searcher.doctor.checks import CHECKS, ENGINE, examine
from r1_searcher.doctor.finding import Level
from r1_searcher.doctor.subject import SAMPLE_ROW, Subject, load_subject
from r1_searcher.episode.question import read_rows
from r1_searcher.recipe.recipe import RECIPES, find_recipe


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="r1_searcher.doctor", description=__doc__, allow_abbrev=False)
    parser.add_argument("--recipe", required=True, help=f"one of: {', '.join(RECIPES)}")
    parser.add_argument("--model", required=True, help="model folder, or its name on the hub")
    parser.add_argument("--retriever-url", default="", help="search service, as in training; default: not examined")
    parser.add_argument("--max-length", type=int, help="tokens per episode instead of the recipe's (--data.max_len)")
    parser.add_argument("--data", type=Path, help="JSONL of questions whose prompts are examined, all of them")
    parser.add_argument("--prompt-file", type=Path, help="prompt with {question} in it, as in training")
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
    recipe = find_recipe(options.recipe)
    if options.max_length is not None:
        recipe = replace(recipe, limits=replace(recipe.limits, max_length=options.max_length))
    recipe = recipe.with_prompts(options.prompt_file)
    rows = read_rows(options.data) if options.data else [SAMPLE_ROW]
    return load_subject(recipe, options.model, rows=rows, retriever_url=options.retriever_url)


if __name__ == "__main__":
    sys.exit(main())
