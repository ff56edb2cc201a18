"""Intervals over questions, and whether two runs differ on the same questions; the same values give the same numbers.

A score near 1 has few questions that are not perfect, and resampling them (the bootstrap) gives an interval that is
too narrow: at a true share of 0.996 and 250 questions, a third of such intervals has no width at all. The method of
Clopper and Pearson is exact for shares. For means of values between 0 and 1 (F1) the sum of the values takes the place
of the number of right answers: no values in 0..1 vary more about their mean than zeros and ones do. How often these
intervals hold the truth, near the ends too, is measured in `tests/eval/results/test_intervals.py`.

Nothing here says how much another seed of the training would differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv, stdtrit

CONFIDENCE = 0.95
ENUMERATED = 12
"""Differences of up to this many questions are tested by all combinations of signs, more by `FLIPS` random ones."""
FLIPS = 9999
_SIGNS_AT_ONCE = 1 << 20
"""Signs that are in memory at the same time, 16 MB of them; all flips of 1,000 questions are ten times that."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class PairedDifference:
    """How much one run is above another on the same questions."""

    mean: float
    interval: Interval
    p_value: float
    """Two-sided: how often a mean as far from 0 comes out if each question's difference gets its sign by a coin."""


def share_interval(values: Sequence[float]) -> Interval:
    """Interval of the mean of values in 0..1, one per question and at least one.

    Raises:
        ValueError: a value is outside of 0..1.
    """
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"expected values in 0..1, found {min(values)} to {max(values)}")
    low, high = _limits(math.fsum(values), len(values))
    return round(low, 4), round(high, 4)


def count_interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of values without an upper bound, such as numbers of searches."""
    mean, n = math.fsum(values) / len(values), len(values)
    if n == 1:
        return round(mean, 4), round(mean, 4)
    margin = float(stdtrit(n - 1, _UPPER)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return round(mean - margin, 4), round(mean + margin, 4)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """`second` minus `first`, values in 0..1; entry i of both belongs to the same question.

    What makes a question hard for both cancels out.
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    return PairedDifference(
        round(float(differences.mean()), 6), difference_interval(differences), round(_sign_flips(differences), 4)
    )


def difference_interval(differences: np.ndarray[Any, Any]) -> Interval:
    """Interval of the mean of differences in -1..1, one per question.

    It joins those of the mean gain and of the mean loss (the square-and-add method of Newcombe, 1998), so that it has a
    width where no question differs, too.
    """
    gains, losses = np.maximum(differences, 0.0), np.maximum(-differences, 0.0)
    gain, loss, n = float(gains.mean()), float(losses.mean()), len(differences)
    (gain_low, gain_high), (loss_low, loss_high) = (_limits(side * n, n) for side in (gain, loss))
    spread = float(gains.std() * losses.std())
    correlation = -gain * loss / spread if spread else 0.0  # no question has both a gain and a loss
    mean = gain - loss
    low = mean - _joined(gain - gain_low, loss_high - loss, correlation)
    high = mean + _joined(gain_high - gain, loss - loss_low, correlation)
    return round(low, 4), round(high, 4)


_UPPER = (1 + CONFIDENCE) / 2


def _limits(total: float, n: int) -> Interval:
    """Limits of Clopper and Pearson, unrounded, for `total` right answers out of `n`; `total` may be a fraction."""
    total = min(max(total, 0.0), float(n))  # sums of floats may leave the range by a rounding error
    low = float(betaincinv(total, n - total + 1, 1 - _UPPER)) if total > 0 else 0.0
    high = float(betaincinv(total + 1, n - total, _UPPER)) if total < n else 1.0
    return low, high


def _joined(first: float, second: float, correlation: float) -> float:
    """Distance of a limit of a difference from the distances of its two terms' limits."""
    return math.sqrt(max(first**2 + second**2 - 2 * correlation * first * second, 0.0))


def _sign_flips(differences: np.ndarray[Any, Any]) -> float:
    """Two-sided p value of the paired permutation test; of zeros and ones it is the exact sign test."""
    moved = differences[differences != 0]
    if len(moved) <= ENUMERATED:
        signs = 1 - 2 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float(np.mean(_as_far(signs, moved)))
    generator = np.random.default_rng(0)
    flips = max(1, _SIGNS_AT_ONCE // len(moved))
    as_far = 0
    for done in range(0, FLIPS, flips):
        signs = generator.choice((-1.0, 1.0), size=(min(flips, FLIPS - done), len(moved)))
        as_far += int(_as_far(signs, moved).sum())
    return (1 + as_far) / (1 + FLIPS)


def _as_far(signs: np.ndarray[Any, Any], moved: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which rows of signs make a sum that is as far from 0 as the sum that was found."""
    found: np.ndarray[Any, Any] = np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9
    return found
