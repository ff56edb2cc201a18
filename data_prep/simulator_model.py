"""A simulated search engine, from searches to a model: `python -m data_prep.simulator_model --sources DIR … --out DIR`.

Two commands in turn: `data_prep.simulator_data` writes the rows, `r1_searcher.sft` trains on them. What has
been done is not done again. The settings stand in `train_scripts/simulator.toml`; a flag with a dot goes to OpenRLHF
and wins, every other one to `data_prep.simulator_data`.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.simulator_data import ROWS
from foundation.cli import OneLineParser, log_to_stderr, run_command, split_flags
from foundation.errors import InputError
from r1_searcher.launch.services import run
from r1_searcher.recipe.presets import words_of

SETTINGS = Path(__file__).resolve().parents[1] / "train_scripts" / "simulator.toml"


def commands(options: argparse.Namespace, others: Sequence[str], settings: Mapping[str, Any]) -> list[list[str]]:
    """What is left to be run, each as a module and its arguments.

    Args:
        options: of this command.
        others: words for the two commands.
        settings: the content of `SETTINGS`.

    Raises:
        InputError: `others` does not begin with a flag, or there is neither a source nor a file of rows.
    """
    words: dict[bool, list[str]] = {True: [], False: []}
    for flag, values in split_flags(others):
        words["." in flag] += [flag, *values]
    rows = options.out / "data" / ROWS
    sources = [source for each in options.sources for source in each.split()]
    if not rows.is_file() and not sources:
        raise InputError(f"{rows} is not there; name the folders that searched for real: --sources DIR …")
    collected = ["data_prep.simulator_data", *sources, "--out", str(rows.parent), *words[False]]
    model = ["--model", options.model or settings["model"], "--data", str(rows), "--out", str(options.out / "model")]
    trained = ["r1_searcher.sft", *model, *words_of(settings["flags"]), *words[True]]
    return [trained] if rows.is_file() else [collected, trained]


def _run(options: argparse.Namespace, others: Sequence[str]) -> int:
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"), parse_float=str)
    for command in commands(options, others, settings):
        status = run([sys.executable, "-m", *command])
        if status:
            return status
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the status is that of the command which failed."""
    parser = OneLineParser(prog="data_prep.simulator_model", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--sources", nargs="+", default=[], help="folders of runs or evaluations that searched for real")
    add("--out", type=Path, required=True, help="folder: the rows go to data/, the model to model/")
    add("--model", default="", help="model to start from (default: the one in train_scripts/simulator.toml)")
    options, others = parser.parse_known_args(argv)
    log_to_stderr()
    return run_command("data_prep.simulator_model", lambda: _run(options, others))


if __name__ == "__main__":
    sys.exit(main())
