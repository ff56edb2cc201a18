"""The extent of a run: which questions it uses, in how many steps, and whether its ranks can share them.

A run is made of whole rollouts, because OpenRLHF's ranks have to take the same number of micro-batches
(`r1_searcher.host.patches.whole_rollouts`). What does not fill a rollout is left out of every pass over the data.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.host.command import Command

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extent:
    """What a run has before it."""

    rows: tuple[QARow, ...]
    """The questions of one pass, in the order of the data; a multiple of the rollout's."""
    given: int
    """Questions in the data."""
    steps: int
    """Rollouts of the whole run, each one step of the host's."""
    optimizer_steps: int
    """Updates of the weights over the whole run, over which its learning-rate schedules extend."""

    @classmethod
    def of(cls, command: Command, rows: Sequence[QARow], max_steps: int | None = None) -> Extent:
        """The extent of a run over these questions: all passes over them, or `max_steps` steps where that is less.

        Raises:
            InputError: the questions do not fill a rollout, or the batches cannot be shared.
        """
        check_batches(command)
        batch = command.questions_per_step
        usable = rows[: command.number("data.max_samples")]
        if len(usable) < batch:
            raise InputError(f"{len(usable)} questions do not fill one batch of {batch} (--rollout.batch_size)")
        used = _without_rest(usable, batch, command.number("train.seed"))
        passes = command.number("train.num_episodes")
        steps = len(used) // batch * passes
        if max_steps is not None and max_steps > steps:
            logger.warning(
                "the run ends after %d steps, before --max-steps %d: %d passes over the data (--train.num_episodes) of "
                "%d rollouts",
                *(steps, max_steps, passes, len(used) // batch),
            )
        steps = min(steps, max_steps or steps)
        updates = batch * command.number("rollout.n_samples_per_prompt") // command.number("train.batch_size")
        return cls(used, len(rows), steps, steps * updates * command.number("train.max_epochs"))

    def tell(self) -> None:
        """Log how much of the data is used, where it is not all of it."""
        if len(self.rows) < self.given:
            logger.info("%d of %d questions used in each pass: whole rollouts only", len(self.rows), self.given)


def _without_rest(rows: Sequence[QARow], batch: int, seed: int) -> tuple[QARow, ...]:
    """As many rows as fill whole batches, chosen by lot, in their order."""
    count = len(rows) // batch * batch
    if count == len(rows):
        return tuple(rows)
    return tuple(rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count)))


def check_batches(command: Command) -> None:
    """Refuse batches that cannot be shared: the optimizer's of a rollout, and a rollout's over the ranks.

    Raises:
        InputError: naming the flags that do not go together.
    """
    for name in (
        "rollout.batch_size",
        "rollout.n_samples_per_prompt",
        "rollout.micro_batch_size",
        "train.batch_size",
        "train.micro_batch_size",
        "train.num_episodes",
        "data.max_samples",
    ):
        if command.number(name) < 1:
            raise InputError(f"--{name} must be at least 1, found {command.get(name)}")
    batch, samples = command.questions_per_step, command.number("rollout.n_samples_per_prompt")
    episodes, train_batch = batch * samples, command.number("train.batch_size")
    if episodes % train_batch:
        raise InputError(
            f"one rollout has {batch} x {samples} = {episodes} episodes, which --train.batch_size {train_batch} does "
            "not divide; the remainder would never be trained on"
        )
    ranks = command.ranks
    if command.get("train.dynamic_batch_enable"):
        _check_token_batches(ranks, episodes, train_batch)
    else:
        _check_micro_batches(command, ranks, episodes, train_batch)


def _check_token_batches(ranks: dict[str, int], episodes: int, train_batch: int) -> None:
    """Micro-batches of tokens: the host makes as many for each actor (openrlhf, `split_rollout_samples`)."""
    actors = ranks["actor"]
    for model, count in ranks.items():
        if actors % count or episodes < actors:
            raise InputError(
                f"one rollout of {episodes} episodes is made into micro-batches for {actors} actor ranks, which "
                f"{count} {model} ranks cannot share evenly; give --{model}.num_gpus_per_node a divisor of the actor's"
            )
        if model in _TRAINED and train_batch % count:
            raise InputError(
                f"--train.batch_size {train_batch} cannot be shared by {count} {model} ranks; give a multiple of it"
            )


def _check_micro_batches(command: Command, ranks: dict[str, int], episodes: int, train_batch: int) -> None:
    """Micro-batches of episodes: handed out in order, so that every rank must get as many, and equal ones."""
    rollout_micro, train_micro = command.number("rollout.micro_batch_size"), command.number("train.micro_batch_size")
    for model, count in ranks.items():
        if count > 1 and episodes % (rollout_micro * count):
            raise InputError(
                f"one rollout has {episodes} episodes, which {count} {model} ranks cannot share evenly in "
                f"micro-batches of {rollout_micro} (--rollout.micro_batch_size): it must be a multiple of "
                f"{rollout_micro * count}"
            )
        if model in _TRAINED and train_batch % (train_micro * count):
            raise InputError(
                f"--train.batch_size {train_batch} is not a multiple of {count} {model} ranks x {train_micro} "
                f"(--train.micro_batch_size) = {train_micro * count}"
            )


_TRAINED = ("actor", "critic")
