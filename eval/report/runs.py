"""The runs and evaluations of a report, found in the folders that a user names.

DIR is a training run          trajectories/*.jsonl, metrics.jsonl, run.json
DIR is an evaluation           predictions.jsonl, evaluation.json, scores.json
DIR holds such folders         the quickstart's base, stage1_run, stage1, stage2_run, stage2
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.results.fingerprint import model_fingerprint
from eval.results.folder import EvaluationFolder
from eval.results.recorded import RecordedSystem, load_recorded_plugins
from eval.results.scores import Scores
from foundation.errors import InputError
from foundation.files import read_json
from r1_searcher.episode.protocol import Protocol, Rule
from r1_searcher.reward.rewards import Reward
from r1_searcher.run.metrics_log import read_metrics
from r1_searcher.run.run_folder import CONFIG_FILE, IDENTITY_FILE, METRICS_FILE, TRAJECTORIES_FOLDER, RunFolder
from r1_searcher.run.run_guard import with_signals

_MODEL_FLAG = "--actor.model_name_or_path"


class RunKind(str, Enum):
    """The kind of a folder's content."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class ReportedRun:
    """One training run or one evaluation, complete or in progress."""

    kind: RunKind
    name: str
    """As the report calls it; no two folders of a report have the same."""
    path: Path

    @cached_property
    def episode_files(self) -> tuple[Path, ...]:
        """Files with one episode per line, in the order of their names."""
        if self.kind is RunKind.EVALUATION:
            return tuple(path for path in [EvaluationFolder(self.path).predictions_file] if path.is_file())
        return tuple(RunFolder(self.path).episode_files)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """`run.json` or `evaluation.json`; empty where it has not been written."""
        file = self.path / CONFIG_FILE if self._is_training else EvaluationFolder(self.path).settings_file
        return _read_object(file)

    @cached_property
    def scores(self) -> Scores | None:
        """`scores.json`; None where the evaluation has not ended."""
        file = EvaluationFolder(self.path).scores_file
        return Scores.read(file) if file.is_file() else None

    @cached_property
    def flags(self) -> Mapping[str, str]:
        """The trainer's flags; empty for an evaluation."""
        return _read_object(self.path / IDENTITY_FILE).get("flags", {})

    @cached_property
    def metrics(self) -> Sequence[Mapping[str, Any]]:
        """One mapping per training step, the guard's signals included; empty for an evaluation, or before a step."""
        run = RunFolder(self.path)
        file = run.metrics_file
        if not self._is_training or not file.is_file():
            return ()
        return with_signals(read_metrics(file), run.signals_file)

    @property
    def is_complete(self) -> bool:
        """Whether nothing will be added."""
        return RunFolder(self.path).is_complete if self._is_training else self.scores is not None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe as JSON, its limits included."""
        limits = {"limits": self.settings["limits"]} if "limits" in self.settings else {}
        return {**self.settings.get("recipe", {}), **limits}

    @cached_property
    def system(self) -> RecordedSystem | None:
        """What its episodes were played with, where this version knows it. Raises `InputError` without its plugin."""
        load_recorded_plugins(self.settings, self.path)
        with contextlib.suppress(InputError):
            return RecordedSystem.of(self.recipe)
        return None

    @property
    def protocol(self) -> Protocol | None:
        """The protocol, where this version knows it."""
        return self.system.protocol if self.system else None

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards of its stages, as far as this version knows them."""
        return self.system.rewards if self.system else ()

    @property
    def rules(self) -> dict[str, Rule]:
        """The format rules of its rewards, by name."""
        if self.system is None:
            return {}
        protocol = self.system.protocol
        return {name: rule for reward in self.rewards for name, rule in reward.rules_under(protocol).items()}

    @property
    def initial_model(self) -> str:
        """The model that a training began with: a folder or a hub name."""
        return self.flags.get(_MODEL_FLAG, "")

    @cached_property
    def initial_fingerprint(self) -> str:
        """Fingerprint of what a training began with, its name where it is of the hub; empty where unknown."""
        return _fingerprint(Path(self.initial_model)) or self.initial_model

    @property
    def model_folder(self) -> Path:
        """The folder of a training's final model."""
        return RunFolder(self.path).model

    @property
    def evaluated_fingerprint(self) -> str:
        """Fingerprint of the model that an evaluation asked."""
        model = self.settings.get("model", "")
        return model.get("fingerprint", "") if isinstance(model, Mapping) else str(model)

    @cached_property
    def final_fingerprint(self) -> str:
        """Fingerprint of the model that a training has left; empty before its end."""
        return _fingerprint(self.model_folder) if self.is_complete else ""

    @property
    def _is_training(self) -> bool:
        return self.kind is RunKind.TRAINING


def find_runs(folders: Sequence[Path]) -> list[ReportedRun]:
    """The runs and evaluations that are these folders, or that stand directly in them, each once.

    Raises:
        InputError: a folder is missing or holds neither.
    """
    parts = 2 if len(folders) > 1 else 1
    given = {path: shown for folder in folders for path, shown in _found_at(folder, parts).items()}
    first = {path.resolve(): path for path in reversed(given)}
    names = told_apart({path: shown for path, shown in given.items() if first[path.resolve()] == path})
    return [ReportedRun(kind, name, path) for path, name in names.items() for kind in _kinds_at(path)]


def told_apart(folders: Mapping[Path, int]) -> dict[Path, str]:
    """A name for each folder: so many last parts of its path, and more where another would have the same name."""
    while True:
        names = {path: "/".join(path.absolute().parts[1:][-parts:]) for path, parts in folders.items()}
        uses = Counter(names.values())
        if len(uses) == len(folders):
            return names
        folders = {path: parts + (uses[names[path]] > 1) for path, parts in folders.items()}


def _found_at(folder: Path, parts: int) -> dict[Path, int]:
    """The folder and those inside it, with how many parts of its path each is called by; `parts` for those inside."""
    if not folder.is_dir():
        raise InputError(f"not a folder: {folder}")
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    places = {folder: 1, **dict.fromkeys(inside, parts)}
    found = {path: shown for path, shown in places.items() if _kinds_at(path)}
    if not found:
        raise InputError(
            f"{folder} is neither a training run (trajectories/, metrics.jsonl) nor an evaluation "
            "(predictions.jsonl), and holds none; give the folder of one"
        )
    return found


def _kinds_at(folder: Path) -> list[RunKind]:
    # A training run names an evaluation's settings nowhere, and the other way round; each mark is of one kind.
    marks = {
        RunKind.TRAINING: (TRAJECTORIES_FOLDER, METRICS_FILE, IDENTITY_FILE),
        RunKind.EVALUATION: ("predictions.jsonl", "evaluation.json"),
    }
    return [kind for kind, names in marks.items() if any((folder / mark).exists() for mark in names)]


def _fingerprint(model: Path) -> str:
    """As evaluations record it; empty where the model is no longer there."""
    return model_fingerprint(str(model)) if (model / "config.json").is_file() else ""


def _read_object(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}
