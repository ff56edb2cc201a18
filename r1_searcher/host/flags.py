"""OpenRLHF's own command-line flags, read from the installed version without importing its heavy modules.

The host builds a parser in the `__main__` part of each of its command-line modules. The statements up to
`parse_args()` need only the standard library, so they are taken out of the source and run alone: checking a
user's flags takes milliseconds instead of importing torch, vLLM and DeepSpeed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NoReturn

from foundation.cli import split_flags
from foundation.errors import InputError

TRAINER_MODULE = "openrlhf.cli.train_ppo_ray"
SFT_MODULE = "openrlhf.cli.train_sft"
SECRET_FLAGS = {"--logger.wandb.key": "WANDB_API_KEY"}
"""Flags of the host that take a secret -> the variable that its logger looks at first: it prints and logs all flags."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"OpenRLHF does not take these flags: {message}")


@cache
def trainer_parser(command: str = TRAINER_MODULE) -> argparse.ArgumentParser:
    """The parser of one of the installed OpenRLHF's modules; its `error` raises `InputError`."""
    path = source_path(command)
    body = _main_block(ast.parse(path.read_text(encoding="utf-8")), path)
    end = next((i for i, statement in enumerate(body) if "parse_args" in ast.dump(statement)), None)
    if end is None:
        raise RuntimeError(f"{path} builds its parser in a way that this version of r1_searcher does not know")
    namespace: dict[str, object] = {
        "argparse": argparse.Namespace(ArgumentParser=lambda: _Parser(allow_abbrev=False)),
        "datetime": datetime,
    }
    exec(compile(ast.Module(body=body[:end], type_ignores=[]), str(path), "exec"), namespace)
    parser = namespace["parser"]
    assert isinstance(parser, _Parser)
    return parser


def parse_flags(argv: Sequence[str], command: str = TRAINER_MODULE) -> argparse.Namespace:
    """Parse OpenRLHF flags. Raises `InputError` for an unknown flag or a bad value."""
    return trainer_parser(command).parse_args(list(argv))


def merge_flags(*layers: Sequence[str]) -> list[str]:
    """One argument list in which a flag of a later layer replaces the same flag of an earlier one.

    Raises:
        InputError: a layer holds something that is not a flag or its value.
    """
    merged: dict[str, list[str]] = {}
    for layer in layers:
        for flag, values in split_flags(layer):
            merged.pop(flag, None)
            merged[flag] = values
    return [word for flag, values in merged.items() for word in (flag, *values)]


def source_path(command: str) -> Path:
    """The file of one of the installed OpenRLHF's modules. Raises `InputError`."""
    spec = importlib.util.find_spec("openrlhf")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("OpenRLHF is not installed; run: bash train_scripts/setup.sh")
    return Path(spec.submodule_search_locations[0]).joinpath(*command.split(".")[1:]).with_suffix(".py")


def _main_block(module: ast.Module, path: Path) -> list[ast.stmt]:
    for statement in module.body:
        if isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test):
            return statement.body
    raise RuntimeError(f"{path} has no __main__ part")
