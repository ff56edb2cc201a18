"""What arms cost before they are played: the seconds of stored runs, else an estimate, marked as one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.findings.arms import ARMS, Arm
from benchmarks.findings.play import EVALUATION_SECONDS, TRAINING_SECONDS, Play
from benchmarks.findings.rows import Rows
from eval.phases import duration_text


@dataclass(frozen=True)
class Cost:
    """Seconds, and whether they rest on stored runs."""

    seconds: float
    measured: bool

    def __str__(self) -> str:
        text = duration_text(self.seconds)
        return text if self.measured or not self.seconds else f"{text} (an estimate: not all of it has been run before)"


def cost_of(plays: Sequence[Play], rows: Rows, at_once: int) -> Cost:
    """The time that passes while these are played, seed by seed, so many at once.

    What a run takes among so many is known only from runs that were stored among as many.
    """
    each = {arm.name: _cost(arm, rows, at_once) for arm in {play.arm.name: play.arm for play in plays}.values()}
    seconds = 0.0
    for seed in {play.seed for play in plays}:
        free = [0.0] * at_once  # when each place is free again
        for play in plays:
            if play.seed == seed:
                heapq.heapreplace(free, free[0] + each[play.arm.name].seconds)
        seconds += max(free)
    return Cost(seconds, all(each[play.arm.name].measured for play in plays))


def _cost(arm: Arm, rows: Rows, at_once: int) -> Cost:
    if own := _seconds(rows, [arm], at_once):
        return Cost(median(own), True)
    alike = [each for each in ARMS.values() if _alike(each, arm)]
    if others := _seconds(rows, alike, at_once) or _seconds(rows, alike):
        return Cost(median(others), False)
    return Cost(TRAINING_SECONDS * arm.trained + EVALUATION_SECONDS * len(arm.evaluated), False)


def _alike(one: Arm, other: Arm) -> bool:
    return (one.trained, bool(one.taught_by), len(one.evaluated)) == (
        other.trained,
        bool(other.taught_by),
        len(other.evaluated),
    )


def _seconds(rows: Rows, arms: Iterable[Arm], at_once: int | None = None) -> list[float]:
    kept = [row for arm in arms for row in rows.of(arm).values()]
    return [sum(row["seconds"].values()) for row in kept if at_once in (None, row["at_once"])]
