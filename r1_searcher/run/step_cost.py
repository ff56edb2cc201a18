"""Where a training step's time went: the host's timings, split further by what the episodes measured.

The host times generation, experience (log-probs, advantages), update and weight sync of each step. Generation is
split by the wall time that its episodes spent waiting for the engine, for documents and for the reward; they run
concurrently, so their sums give shares, not seconds. What lies between two steps is saving and logging.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from foundation.text_table import format_table

_HOST = {
    "experience": "timing/make_experience",
    "update": "timing/ppo_train",
    "sync": "timing/broadcast",
}
_EPISODE = {"generate": "seconds/engine", "retrieve": "seconds/retrieval", "reward": "seconds/reward"}
"""Parts of an episode's wall time; the rest of it is our own loop, and waiting for the processor."""


@dataclass(frozen=True)
class StepCost:
    """Mean seconds per step of each phase, in the order in which they happen."""

    seconds: Mapping[str, float]
    steps: int

    @property
    def total(self) -> float:
        """Seconds of a whole step."""
        return sum(self.seconds.values())

    def table(self) -> str:
        """Aligned lines: phase, seconds, share."""
        shares = {name: seconds / self.total if self.total else 0.0 for name, seconds in self.seconds.items()}
        rows = [(name, f"{self.seconds[name]:.2f} s", f"{100 * share:.1f} %") for name, share in shares.items()]
        return f"one step took {self.total:.2f} s (mean of {self.steps} steps):\n{format_table((), rows)}"


def step_cost(steps: Sequence[Mapping[str, Any]], attempts: Collection[int] = ()) -> StepCost | None:
    """The cost of a run's steps; None where the host logged no timings.

    The first step also warms up and is left out where there are others.

    Args:
        steps: lines of `metrics.jsonl`.
        attempts: the steps that attempts at the run began from; the time before the next one was spent on no step.
    """
    timed = [step for step in steps if "timing/generation" in step]
    timed = timed[1:] or timed
    if not timed:
        return None
    generation = _mean(timed, "timing/generation")
    episode = _mean(timed, "seconds/episode")
    seconds: dict[str, float] = {}
    for name, key in _EPISODE.items():
        share = _mean(timed, key) / episode if episode else 0.0
        seconds[name] = generation * share
    seconds["rest of the rollout"] = max(generation - sum(seconds.values()), 0.0)
    seconds |= {name: _mean(timed, key) for name, key in _HOST.items()}
    return StepCost({**seconds, "save and log": _between_steps(steps, attempts)}, len(timed))


def _mean(steps: Sequence[Mapping[str, Any]], key: str) -> float:
    return fmean(float(step.get(key) or 0.0) for step in steps)


def _between_steps(steps: Sequence[Mapping[str, Any]], attempts: Collection[int]) -> float:
    """Seconds between the end of a step and the start of the next one, both of one attempt."""
    gaps = [
        later["time"] - earlier["time"] - float(later.get("timing/step_total") or 0.0)
        for earlier, later in zip(steps, steps[1:], strict=False)
        if later["step"] == earlier["step"] + 1 and earlier["step"] not in attempts
    ]
    return max(fmean(gaps), 0.0) if gaps else 0.0
