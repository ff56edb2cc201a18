"""Systems of a user's own: Python files or modules that add rows to the tables of protocols, rewards and recipes.

Every command that takes a recipe, a protocol or a reward takes `--plugin`. A run's configuration and an evaluation's
settings name the plugins, so that each process of a run (also on other machines, where they are at the same place) and
each later look at it knows the same rows.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, TypeVar

from foundation.errors import InputError
from foundation.user_code import load_file, load_module
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.protocols import PROTOCOLS
from r1_searcher.recipe.recipe import RECIPES, Recipe
from r1_searcher.reward.rewards import REWARDS, Reward

_Row = TypeVar("_Row")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def register(recipe: Recipe | None = None, *, protocol: Protocol | None = None, reward: Reward | None = None) -> None:
    """Add a system (a recipe, with its protocol and its rewards), or a protocol or a reward on its own.

    A name that a table has already is refused, unless the row is the same.

    Raises:
        InputError: the name is taken.
    """
    if protocol is not None:
        _add("protocol", PROTOCOLS, protocol.name, protocol)
    if reward is not None and "=" not in reward.name:  # a composed reward is known by its text
        _add("reward", REWARDS, reward.name, reward)
    if recipe is not None:
        register(protocol=recipe.protocol)
        for each in recipe.rewards:
            register(reward=each)
        _add("recipe", RECIPES, recipe.name, recipe)


def _add(kind: str, table: dict[str, _Row], name: str, row: _Row) -> None:
    if table.setdefault(name, row) is not row:
        raise InputError(f"the {kind} {name!r} exists already; choose another name")


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    """Give a command `--plugin`: each one is loaded as it is read; `options.plugins` names them for other processes."""
    parser.add_argument(
        "--plugin",
        dest="plugins",
        action=_Load,
        default=(),
        metavar="FILE",
        help="Python file or module with systems of your own; may be repeated",
    )


class _Load(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            plugin = load_plugin(values)
        except InputError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, tuple(dict.fromkeys((*getattr(namespace, self.dest), plugin))))


def load_plugin(plugin: str | Path) -> str:
    """Run a plugin, a file (by its path) or an importable module (by its name), once per process.

    Returns:
        What another process on a machine with the same files can load it by.

    Raises:
        InputError: there is no such file or module, or it fails; the message names the error.
    """
    file = Path(plugin).resolve()
    if not file.is_file() and _MODULE.fullmatch(str(plugin)) and file.suffix != ".py":
        return load_module(str(plugin), "plugin").__name__
    if load_file(file, "plugin") is None:
        raise InputError(f"plugin not found: {plugin} (expected a Python file, or the name of a module)")
    return str(file)
