"""A comparison over seeds: the interval of the paired difference, what it says of the claim, and its power.

The interval is Student's over the seeds' differences. It is about other seeds of the same world (facts, questions,
samples), and not about other base models, settings or sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

from benchmarks.findings.catalogue import Contrast
from benchmarks.findings.rows import Row
from eval.results.intervals import CONFIDENCE
from foundation.errors import InputError

POWER = 0.8
PLANNED = 5
"""Seeds of a finding."""


class Standing(str, Enum):
    """What the interval says of a claim."""

    AGREES = "agrees"
    OPPOSITE = "opposite"
    DIFFERS = "differs"
    """Where the claim is that there is no difference."""
    NO_DIFFERENCE = "no difference seen at this size"
    ONE_SEED = "one seed: no interval"


@dataclass(frozen=True)
class Paired:
    """The differences of one comparison, a seed each."""

    contrast: Contrast
    seeds: tuple[int, ...]
    one: tuple[float, ...]
    """Values of its one side, by seed."""
    other: tuple[float, ...]

    @classmethod
    def of(cls, contrast: Contrast, rows: Mapping[str, Mapping[int, Row]]) -> Paired | None:
        """The comparison over the seeds that both arms have; None where there is none.

        Args:
            rows: by arm and seed.

        Raises:
            InputError: the two rows of a seed are of different worlds or base models.
        """
        ones, others = rows[contrast.one.arm], rows[contrast.other.arm]
        seeds = tuple(sorted(ones.keys() & others.keys()))
        if not seeds:
            return None
        for seed in seeds:
            for shared in ("world", "base"):
                if ones[seed][shared] != others[seed][shared]:
                    raise InputError(
                        f"{contrast.one.arm} and {contrast.other.arm}, seed {seed}, were played with another {shared} "
                        f"({ones[seed][shared]} and {others[seed][shared]}): remove the older rows and run them again"
                    )
        one = tuple(contrast.one.measure.of(ones[seed]) for seed in seeds)
        return cls(contrast, seeds, one, tuple(contrast.other.measure.of(others[seed]) for seed in seeds))

    @property
    def differences(self) -> np.ndarray:
        """`one` minus `other`, by seed."""
        return np.asarray(self.one) - np.asarray(self.other)

    @property
    def mean(self) -> float:
        """Mean difference."""
        return float(self.differences.mean())

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean difference; None for one seed."""
        n = len(self.seeds)
        if n < 2:
            return None
        half = _critical(n) * self._spread / math.sqrt(n)
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float | None:
        """Student's, two-sided: that the mean difference is 0; None for one seed."""
        n = len(self.seeds)
        if n < 2:
            return None
        return 2 * float(stdtr(n - 1, -abs(self.mean) * math.sqrt(n) / max(self._spread, 1e-12)))

    @property
    def verdict(self) -> Standing:
        """What the interval says of the claim; one that holds 0 says that no difference was seen."""
        if self.interval is None:
            return Standing.ONE_SEED
        low, high = self.interval
        if low <= 0 <= high:
            return Standing.NO_DIFFERENCE
        if not self.contrast.claimed:
            return Standing.DIFFERS
        return Standing.AGREES if self.contrast.claimed * self.mean > 0 else Standing.OPPOSITE

    @property
    def smallest(self) -> float | None:
        """The smallest true difference that `PLANNED` seeds of this spread would show; None for one seed."""
        return None if len(self.seeds) < 2 else smallest_shown(self._spread, PLANNED)

    @property
    def _spread(self) -> float:
        return float(self.differences.std(ddof=1))


def corrected(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values of several comparisons, each raised for their number by Holm's step-down rule (1979)."""
    found: dict[str, float] = {}
    highest = 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_value))
        found[name] = highest
    return found


def smallest_shown(spread: float, seeds: int) -> float:
    """The true mean difference whose interval leaves out 0 with probability `POWER`.

    Args:
        spread: standard deviation of the seeds' differences.
    """
    critical = _critical(seeds)
    low, high = 0.0, 100.0  # non-centrality: the mean in standard errors
    for _ in range(60):
        middle = (low + high) / 2
        shown = 1 - float(nctdtr(seeds - 1, middle, critical))
        low, high = (middle, high) if shown < POWER else (low, middle)
    return high * spread / math.sqrt(seeds)


def _critical(seeds: int) -> float:
    return float(stdtrit(seeds - 1, (1 + CONFIDENCE) / 2))
