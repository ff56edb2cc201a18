"""Systems of a user's own: a Python file that adds rows to the tables of protocols, rewards and recipes.

`--plugin FILE` loads it before names are looked up, and the run's configuration carries its path, so that every
process of a run (and the engines of other machines, where the file is at the same path) knows the same rows.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TypeVar

from foundation.errors import InputError
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.protocols import PROTOCOLS
from r1_searcher.recipe.recipe import RECIPES, Recipe
from r1_searcher.reward.rewards import REWARDS, Reward

_Row = TypeVar("_Row")


def register(*, protocol: Protocol | None = None, reward: Reward | None = None, recipe: Recipe | None = None) -> None:
    """Add rows; a name that a table has already is refused, unless the row is the same.

    Raises:
        InputError: the name is taken.
    """
    if protocol is not None:
        _add("protocol", PROTOCOLS, protocol.name, protocol)
    if reward is not None:
        _add("reward", REWARDS, reward.name, reward)
    if recipe is not None:
        _add("recipe", RECIPES, recipe.name, recipe)


def _add(kind: str, table: dict[str, _Row], name: str, row: _Row) -> None:
    if table.setdefault(name, row) is not row:
        raise InputError(f"the {kind} {name!r} exists already; choose another name")


def load_plugin(path: str | Path) -> None:
    """Run a plugin file, once per process.

    Raises:
        InputError: the file is missing, or fails; the message names the error.
    """
    file = Path(path).resolve()
    name = f"r1_searcher_plugin_{file.stem}"
    if getattr(sys.modules.get(name), "__file__", None) == str(file):
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise InputError(f"plugin not found: {file} (expected a Python file)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"the plugin {file} fails: {type(error).__name__}: {error}") from error
