"""The command line of `eval.run`: its flags, and the values that they mean."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from eval.play.contestant import BASELINES, Contestant, find_contestant
from eval.results.recorded import recorded_plugins, recorded_recipe
from foundation.cli import OneLineParser, positive
from foundation.errors import InputError
from r1_searcher.episode.question import QARow, check_ids, read_rows
from r1_searcher.inference import options as inference
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.options import add_concurrency_option, add_model_options
from r1_searcher.inference.sources import SearchSources
from r1_searcher.recipe.options import (
    add_recipe_options,
    add_search_options,
    add_trust_option,
    changed_recipe,
    check_agent,
)
from r1_searcher.recipe.recipe import RECIPES


def parser(description: str | None) -> argparse.ArgumentParser:
    """The parser; paths and numbers are checked by the functions below."""
    parser = OneLineParser(prog="eval.run", description=description, allow_abbrev=False)
    add_recipe_options(parser, [*RECIPES, *BASELINES], required=False)
    like = "training run whose recipe, limits, prompts and plugins are taken; instead of --recipe"
    parser.add_argument("--like", type=Path, metavar="RUN", help=like)
    add_search_options(parser, without="not for a closed book")
    parser.add_argument("--model", required=True, help="Hugging Face folder or hub name, or the endpoint's name")
    parser.add_argument("--data", required=True, type=Path, help="JSONL of questions: id, question, answers")
    parser.add_argument("--out", required=True, type=Path, help="folder of this evaluation; a killed one is continued")
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature; 0 is greedy (default)")
    parser.add_argument("--also-sampled", action="store_true", help="evaluate temperature 1 too, as training samples")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument("--limit", type=positive, help="only the first N questions")
    add_concurrency_option(parser)
    parser.add_argument(
        "--note", action="append", default=[], metavar="KEY=VALUE", help="remark to keep with the scores"
    )
    add_trust_option(parser)
    add_model_options(parser)
    return parser


def contestant_of(options: argparse.Namespace) -> Contestant:
    """The named recipe or baseline, or the run's recipe, with the user's prompts and limits. Raises `InputError`."""
    if (options.recipe is None) == (options.like is None):
        raise InputError("give either --recipe NAME or --like RUN")
    contestant = find_contestant(options.recipe) if options.like is None else Contestant(recorded_recipe(options.like))
    recipe = changed_recipe(contestant.recipe, options)
    check_agent(recipe)
    if recipe.agent is not None and contestant.searches_first:
        raise InputError(f"{recipe.name} begins with a search of its own, an agent need not: leave out --agent")
    return replace(contestant, recipe=recipe)


def plugins_of(options: argparse.Namespace) -> list[str]:
    """The plugins that the evaluation needs; they stand in its settings."""
    recorded = () if options.like is None else recorded_plugins(options.like)
    return list(dict.fromkeys((*recorded, *options.plugins)))


def decodings_of(options: argparse.Namespace) -> list[Decoding]:
    """The ways of sampling, each one once."""
    temperatures = dict.fromkeys([options.temperature, *[1.0] * options.also_sampled])
    return [Decoding(temperature, seed=options.seed) for temperature in temperatures]


def rows_of(options: argparse.Namespace) -> list[QARow]:
    """The questions. Raises `InputError` where two have the same id."""
    rows = read_rows(options.data)[: options.limit]
    check_ids(rows, str(options.data))
    return rows


def sources_of(options: argparse.Namespace, contestant: Contestant) -> SearchSources:
    """The sources that the episodes use. Raises `InputError` where one that they need is missing."""
    return inference.sources_of(options, contestant.recipe)


def notes_of(options: argparse.Namespace) -> dict[str, str]:
    """The user's notes, to keep with the scores. Raises `InputError`."""
    notes = {}
    for note in options.note:
        key, found, value = note.partition("=")
        if not (found and key and value):
            raise InputError(f"--note must be KEY=VALUE, found {note!r}")
        notes[key] = value
    return notes
