"""The checkpoints that a run has kept, and going back to one of them."""

from __future__ import annotations

from pathlib import Path

from foundation.files import write_whole
from r1_searcher.run.run_folder import RunFolder

_PREFIX = "global_step"


def kept_steps(folder: RunFolder) -> list[int]:
    """Global steps of the whole checkpoints, ascending.

    DeepSpeed names a checkpoint in `latest` once all of it is written, so a later one is not whole.
    """
    names = [path.name.removeprefix(_PREFIX) for path in _actor(folder).glob(f"{_PREFIX}*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and int(name) <= folder.last_step)


def go_back_to(folder: RunFolder, step: int) -> None:
    """Make a kept checkpoint the one that the run continues from, for the actor and, where there is one, the critic.

    Later checkpoints stay until the run, continuing, writes over them or needs their place.
    """
    for models in (_actor(folder), _actor(folder).with_name("_critic")):
        if (models / "latest").is_file():
            write_whole(models / "latest", f"{_PREFIX}{step}")


def _actor(folder: RunFolder) -> Path:
    return folder.checkpoints / "_actor"
