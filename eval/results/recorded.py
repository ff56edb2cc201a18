"""The system that a folder says its episodes were played with: a training run's or an evaluation's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results.folder import SCORES_FILE, SETTINGS_FILE
from foundation.errors import InputError
from foundation.files import read_json
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.plugins import load_plugin
from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.recipe.recipe import Recipe
from r1_searcher.reward.rewards import Reward, find_reward
from r1_searcher.run.run_config import plugins_of
from r1_searcher.run.run_folder import CONFIG_FILE, RunFolder


@dataclass(frozen=True)
class RecordedSystem:
    """Protocol and rewards of the episodes in a folder."""

    protocol: Protocol
    rewards: tuple[Reward, ...]
    """Of all stages, as far as this version knows them."""

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> RecordedSystem:
        """The system of a recipe's JSON object. Raises `InputError` where its protocol is not known here."""
        rewards = []
        for name in filter(None, (recipe.get("reward"), recipe.get("then_reward"))):
            with contextlib.suppress(InputError):
                rewards.append(find_reward(name))
        return cls(find_protocol(recipe.get("protocol", "")), tuple(rewards))


def episode_files(folder: Path) -> list[Path]:
    """The files of episodes in the folder of a run or an evaluation; none where it is neither."""
    return RunFolder(folder).episode_files or sorted(folder.glob("predictions.jsonl"))


def load_recorded_plugins(settings: Mapping[str, Any], file: Path) -> None:
    """Load the plugins that a run or an evaluation names, unless what it needs of them is known already.

    Args:
        settings: what `file`, a `run.json` or `evaluation.json`, holds.

    Raises:
        InputError: a plugin is gone or fails.
    """
    recipe = settings.get("recipe", {})
    plugins = plugins_of(settings)
    if not plugins or _is_known(recipe):
        return
    try:
        for plugin in plugins:
            load_plugin(plugin)
    except InputError as error:
        raise InputError(f"{file} was made with a plugin: {error}; if it has moved, name it with --plugin") from error


def _is_known(recipe: Mapping[str, Any]) -> bool:
    try:
        find_protocol(recipe.get("protocol", ""))
        for name in filter(None, (recipe.get("reward"), recipe.get("then_reward"))):
            find_reward(name)
    except InputError:
        return False
    return True


def recorded_system(folder: Path) -> RecordedSystem | None:
    """The system of the episodes in a run's or an evaluation's folder; None where the folder is neither.

    Raises:
        InputError: the system is not known here, one of its plugins is gone, or the file cannot be read.
    """
    for name, inside in ((CONFIG_FILE, ()), (SETTINGS_FILE, ()), (SCORES_FILE, ("provenance",))):
        file = folder / name
        if not file.is_file():
            continue
        settings = read_json(file)
        try:
            for key in inside:
                settings = settings[key]
            load_recorded_plugins(settings, file)
            return RecordedSystem.of(settings["recipe"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{file} does not say which recipe its episodes were played with ({error!r})") from error
    return None


def recorded_recipe(run: Path) -> Recipe:
    """The recipe of a training run, with its limits and prompts.

    Raises:
        InputError: the folder is no training run, or its recipe is not known here.
    """
    settings = _run_settings(run)
    load_recorded_plugins(settings, run / CONFIG_FILE)
    try:
        return Recipe.from_mapping(settings["recipe"])
    except (LookupError, TypeError) as error:
        raise InputError(f"{run / CONFIG_FILE} does not hold a recipe ({error!r})") from error


def recorded_plugins(run: Path) -> tuple[str, ...]:
    """The plugins that a training run needs. Raises `InputError` where the folder is no training run."""
    return plugins_of(_run_settings(run))


def _run_settings(run: Path) -> Mapping[str, Any]:
    try:
        return read_json(run / CONFIG_FILE)
    except InputError as error:
        raise InputError(f"{run} is no training run: {error}") from error
