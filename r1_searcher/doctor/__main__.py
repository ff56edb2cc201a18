"""Examine a set-up before training: `python -m r1_searcher.doctor --recipe NAME --model DIR_OR_NAME …`.

One line per check: ok, warning or FAILED, what was seen, and what to do. Status 0 where nothing failed, else 2.
A preset names recipe, model and flags; OpenRLHF's own flags may follow. With `--gpus 8x80` nothing is examined, and the
memory of such a run is planned for eight GPUs of 80 GB, phase by phase, on any machine and without the model's files.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.cli import BAD_INPUT, DONE, NAMED, OneLineParser, log_to_stderr, run_command
from foundation.errors import InputError
from r1_searcher.doctor.checks import CHECKS, ENGINE
from r1_searcher.episode.question import read_rows
from r1_searcher.host.command import LENGTH_FLAG, MODEL_FLAG, build_command
from r1_searcher.host.device import Device
from r1_searcher.host.model_folder import shape_of
from r1_searcher.inspection.checks import examine
from r1_searcher.inspection.finding import Level
from r1_searcher.inspection.subject import SAMPLE_ROW, load_subject
from r1_searcher.launch.playground import model_of
from r1_searcher.memory.fit import Cards, fit
from r1_searcher.memory.layout import Layout
from r1_searcher.memory.report import report
from r1_searcher.recipe.options import add_recipe_options, add_search_options, add_trust_option, changed_recipe
from r1_searcher.recipe.presets import find_preset
from r1_searcher.recipe.recipe import RECIPES, Recipe, find_recipe


@dataclass(frozen=True)
class Asked:
    """The run that is examined."""

    title: str
    recipe: Recipe
    model: str
    flags: tuple[str, ...]
    """OpenRLHF's."""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="r1_searcher.doctor", description=__doc__, allow_abbrev=False)
    parser.add_argument("--preset", default="", help="recipe, model and flags by name, or of a .toml file of your own")
    parser.add_argument("--stage", default="", help="of the preset; default: its first")
    add_recipe_options(parser, RECIPES, required=False)
    add_search_options(parser, without="not given: it is not examined")
    parser.add_argument("--model", help="model folder, or its name on the hub")
    parser.add_argument("--gpus", default="", metavar="NxGB", help="plan the memory of a run on these GPUs only")
    parser.add_argument("--data", type=Path, help="JSONL of questions whose prompts are examined, all of them")
    add_trust_option(parser)
    parser.add_argument("--engine", action="store_true", help="also start vLLM and sample some turns")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, like a check that failed."""
    log_to_stderr(NAMED, level=logging.ERROR)
    options, host_flags = _parser().parse_known_args(argv)
    return run_command("r1_searcher.doctor", lambda: _run(options, host_flags))


def _run(options: argparse.Namespace, host_flags: Sequence[str]) -> int:
    asked = _asked(options, host_flags)
    return _plan(asked, Cards.parse(options.gpus)) if options.gpus else _examine(asked, options)


def _asked(options: argparse.Namespace, host_flags: Sequence[str]) -> Asked:
    """What the options name, a preset's values where they are silent. Raises `InputError`."""
    flags = list(host_flags)
    name, model = options.recipe, options.model
    if options.preset:
        preset = find_preset(options.preset)
        stage = preset.stage(options.stage)
        flags = [*preset.flag_words(stage), *flags]
        name, model = name or stage.recipe, model or model_of(preset)
    if not name or not model:
        raise InputError("give --recipe and --model, or a --preset that has them")
    recipe = changed_recipe(find_recipe(name), options)
    if options.max_length is not None:
        flags = [*flags, LENGTH_FLAG, str(options.max_length)]
    return Asked(options.preset or name, recipe, model, tuple(flags))


def _plan(asked: Asked, cards: Cards) -> int:
    """Print the plan of the run's memory; the status says whether it fits."""
    command = build_command(asked.recipe, Path("/run"), (MODEL_FLAG, asked.model, *asked.flags), Device.CUDA)
    layout = Layout(vars(command.flags))
    critic = str(layout.flags["critic.model_name_or_path"] or asked.model)
    planned = fit(shape_of(asked.model), layout, cards, shape_of(critic))
    print(report(planned, f"{asked.title}, {asked.model}"))
    return DONE if planned.fits else BAD_INPUT


def _examine(asked: Asked, options: argparse.Namespace) -> int:
    rows = read_rows(options.data) if options.data else [SAMPLE_ROW]
    subject = load_subject(
        asked.recipe,
        asked.model,
        rows=rows,
        search=options.search or "",
        flags=asked.flags,
        trust_remote_code=options.trust_remote_code,
    )
    levels = []
    for name, finding in examine(subject, (*CHECKS, ENGINE) if options.engine else CHECKS):
        print(finding.line(name), flush=True)
        levels.append(finding.level)
    return BAD_INPUT if Level.FAILED in levels else DONE


if __name__ == "__main__":
    sys.exit(main())
