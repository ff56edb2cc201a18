"""The checkpoints of a run: which are whole, going back to one, and what a killed attempt has left of the others.

DeepSpeed writes a checkpoint file by file into `checkpoints/_actor/global_stepN` (and `_critic`), each rank its own,
and its name into `latest` when rank 0 is done (deepspeed/runtime/engine.py, `save_checkpoint`: no barrier before it). A
kill can therefore leave a folder without `latest`, a `latest` whose folder lacks the file of a slower rank, actor and
critic at different steps, or half of an old checkpoint that was being rotated away. OpenRLHF loads what is there.
"""

from __future__ import annotations

import logging
import math
import pickle
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.files import write_whole
from r1_searcher.run.run_folder import RunFolder

logger = logging.getLogger(__name__)

_PREFIX = "global_step"
_OPTIMIZER_FILE = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt")


@dataclass(frozen=True)
class ModelCheckpoints:
    """The checkpoints of the actor, or of the critic."""

    path: Path

    @property
    def latest_file(self) -> Path:
        """Where DeepSpeed names the checkpoint that it would load."""
        return self.path / "latest"

    @property
    def latest(self) -> float:
        """The step that `latest` names; 0 without the file, infinity where a kill has left it empty."""
        if not self.latest_file.is_file():
            return 0
        step = self.latest_file.read_text(encoding="utf-8", errors="replace").strip().removeprefix(_PREFIX)
        return int(step) if step.isdecimal() else math.inf

    def folder(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.path / f"{_PREFIX}{step}"

    def steps(self) -> list[int]:
        """The steps of which there is a folder, ascending."""
        names = [path.name.removeprefix(_PREFIX) for path in self.path.glob(f"{_PREFIX}*") if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def whole_steps(self) -> list[int]:
        """The steps whose checkpoint has all that DeepSpeed would read, none of them after `latest`; ascending."""
        return [step for step in self.steps() if step <= self.latest and is_whole(self.folder(step))]

    def continue_from(self, step: int) -> None:
        """Make a checkpoint the one that is loaded."""
        if self.latest != step:
            write_whole(self.latest_file, f"{_PREFIX}{step}")


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a DeepSpeed checkpoint is there and was written to its end.

    Torch's files are zip archives, whose directory comes last. The states of the weights say how many ranks have
    written a file of optimizer states.
    """
    files = [path for path in checkpoint.glob("*.pt") if path.is_file()]
    weights = sorted(path for path in files if path.name.endswith("model_states.pt"))
    if not weights or not all(map(zipfile.is_zipfile, files)):
        return False
    ranks = {match.groups() for path in files if (match := _OPTIMIZER_FILE.fullmatch(path.name))}
    return len({pp for pp, _ in ranks}) == _ranks_said_by(weights[0])


def _ranks_said_by(weights: Path) -> int:
    """Ranks that share the optimizer's states, as the states of the weights say; 0 where they cannot be read."""
    import torch

    try:
        # Written by this run; mapped, so that only the small values are read.
        states = torch.load(weights, map_location="cpu", mmap=True, weights_only=False)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return 0
    return int(states["dp_world_size"])


def kept_steps(folder: RunFolder) -> list[int]:
    """Global steps of the whole checkpoints of all models, ascending."""
    models = [model for model in (_actor(folder), _critic(folder)) if model.path.is_dir()]
    return sorted(set.intersection(*(set(model.whole_steps()) for model in models))) if models else []


def actor_checkpoint(folder: RunFolder, step: int) -> Path:
    """Folder of the checkpoint of the model that is trained."""
    return _actor(folder).folder(step)


def go_back_to(folder: RunFolder, step: int) -> None:
    """Make a kept checkpoint the one that the run continues from, for the actor and, where there is one, the critic."""
    for model in (_actor(folder), _critic(folder)):
        if model.latest_file.is_file():
            model.continue_from(step)


def settle(folder: RunFolder, *, critic: bool) -> None:
    """Leave only what a run can continue from: whole checkpoints that all its models have, up to the newest of these.

    Called before each start, when no process of an earlier attempt is left. Without a whole checkpoint the run begins
    anew. Later ones have to go even where they are whole (after going back): OpenRLHF rotates by age, and would sooner
    delete the checkpoint that the run continues from.

    Args:
        folder: the run's.
        critic: whether the run trains one; a checkpoint of the actor alone is then none.
    """
    models = [_actor(folder), *([_critic(folder)] if critic else [])]
    if not any(model.path.is_dir() for model in models):
        return
    newest = settle_models(models)
    for model in models:
        if not newest and model.path.is_dir():
            shutil.rmtree(model.path)  # OpenRLHF would load from the folder because it is there
    for step, path in saved_models(folder).items():
        if step > newest:
            shutil.rmtree(path)


def settle_models(models: Sequence[ModelCheckpoints]) -> int:
    """Leave only whole checkpoints that all of the models have, up to the newest; gives its step, 0 without one."""
    limit = min(model.latest for model in models)
    kept = {step for step in set.intersection(*(set(model.whole_steps()) for model in models)) if step <= limit}
    newest = max(kept, default=0)
    for model in models:
        if newest:
            model.continue_from(newest)
        else:
            model.latest_file.unlink(missing_ok=True)
        for step in model.steps():
            if step not in kept:
                logger.warning(
                    "removed the checkpoint %s: not whole, or later than step %d", model.folder(step), newest
                )
                shutil.rmtree(model.folder(step))
    return newest


def saved_models(folder: RunFolder) -> dict[int, Path]:
    """Folders of the Hugging Face models that were saved on the way (`--ckpt.save_hf`), by step."""
    found = {}
    for path in folder.checkpoints.glob(f"{_PREFIX}*_hf"):
        step = path.name.removeprefix(_PREFIX).removesuffix("_hf")
        if step.isdecimal():
            found[int(step)] = path
    return found


def rotate_saved_models(folder: RunFolder, keep: int) -> None:
    """Remove the saved models whose checkpoint OpenRLHF has rotated away; of models alone, all but the newest `keep`.

    OpenRLHF writes the checkpoint of a step before its model, and rotates only the former.
    """
    models, actor = saved_models(folder), _actor(folder)
    if actor.path.is_dir():
        gone = [step for step in models if not actor.folder(step).is_dir()]
    else:
        gone = sorted(models)[:-keep]
    for step in gone:
        shutil.rmtree(models[step], ignore_errors=True)  # a run does not end because an old model stays


def _actor(folder: RunFolder) -> ModelCheckpoints:
    return ModelCheckpoints(folder.checkpoints / "_actor")


def _critic(folder: RunFolder) -> ModelCheckpoints:
    return ModelCheckpoints(folder.checkpoints / "_critic")
