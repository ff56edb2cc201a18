"""The Ray actor that counts a run's questions, one for all engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher.recipe.schedule import Batches, Progress, Ticket
from r1_searcher.run.run_config import RunConfig
from r1_searcher.run.run_folder import RunFolder

_NAME = "r1_searcher_progress"


def start(run: RunConfig) -> Any:
    """Start the actor; it lives as long as the handle. Ray must be up."""
    import ray

    actor = ray.remote(num_cpus=0)(Progress).options(name=_NAME)
    return actor.remote(
        Batches(run.questions_per_step, run.questions_per_pass),
        run.total_steps,
        run.recipe.switch,
        RunFolder(Path(run.run_dir)).progress_file,
        run.first_step,
    )


class SharedProgress:
    """The actor, from a rollout process."""

    def __init__(self) -> None:
        import ray

        self._actor = ray.get_actor(_NAME)

    async def begin(self) -> Ticket:
        """The stage and progress at which an episode begins."""
        return await self._actor.begin.remote()

    async def end(self, episodes: Sequence[tuple[bool, bool]], *, kept: bool) -> None:
        """Note the end of a question, before the host hears of it and draws another one."""
        await self._actor.end.remote(episodes, kept=kept)
