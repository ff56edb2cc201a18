"""What arms cost before they are played: the seconds of stored runs, else an estimate that says that it is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.findings.arms import ARMS, Arm
from benchmarks.findings.rows import Rows
from eval.phases import duration_text

TRAINING_SECONDS, EVALUATION_SECONDS = 250.0, 25.0
"""Of a run of 75 steps, and of one evaluation in both ways of sampling, on two idle cores: about the quickstart's."""


@dataclass(frozen=True)
class Cost:
    """Seconds, and whether they rest on stored runs."""

    seconds: float
    measured: bool

    def __str__(self) -> str:
        text = duration_text(self.seconds)
        return text if self.measured or not self.seconds else f"{text} (an estimate: not all of it has been run before)"


def cost_of(plays: Sequence[Arm], rows: Rows) -> Cost:
    """The cost of playing arms, each for one seed."""
    each = {arm.name: _cost(arm, rows) for arm in plays}
    costs = [each[arm.name] for arm in plays]
    return Cost(sum(cost.seconds for cost in costs), all(cost.measured for cost in costs))


def _cost(arm: Arm, rows: Rows) -> Cost:
    if own := _seconds(rows, [arm]):
        return Cost(median(own), True)
    if others := _seconds(rows, [each for each in ARMS.values() if _alike(each, arm)]):
        return Cost(median(others), False)
    return Cost(TRAINING_SECONDS * arm.trained + EVALUATION_SECONDS * len(arm.evaluated), False)


def _alike(one: Arm, other: Arm) -> bool:
    return (one.trained, bool(one.taught_by), len(one.evaluated)) == (
        other.trained,
        bool(other.taught_by),
        len(other.evaluated),
    )


def _seconds(rows: Rows, arms: Iterable[Arm]) -> list[float]:
    return [sum(row["seconds"].values()) for arm in arms for row in rows.of(arm).values()]
