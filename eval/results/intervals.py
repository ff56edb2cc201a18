"""Percentile-bootstrap intervals over questions; the same values give the same numbers, every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """How much one run is above another on the same questions."""

    mean: float
    interval: tuple[float, float]
    p_value: float
    """Two-sided: how often a resampled difference lies on the other side of 0, twice, and at least 2 / resamples."""


def intervals(values: Sequence[Sequence[float]]) -> list[list[float]]:
    """`[low, high]` of the mean of each column; rows are questions, at least one."""
    low, high = np.quantile(_resampled_means(np.asarray(values, dtype=float)), _TAILS, axis=0).round(4).tolist()
    return [list(pair) for pair in zip(low, high, strict=True)]


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """`second` minus `first`; entry i of both belongs to the same question.

    Questions are resampled, not runs, so that what makes a question hard for both cancels out.
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    means = _resampled_means(differences[:, None])[:, 0]
    low, high = np.quantile(means, _TAILS).round(4).tolist()
    one_sided = min(float(np.mean(means <= 0)), float(np.mean(means >= 0)))
    p_value = min(1.0, 2 * max(one_sided, 1 / RESAMPLES))
    return PairedDifference(round(float(differences.mean()), 6), (low, high), round(p_value, 4))


_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def _resampled_means(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Means of each column, one row per resample."""
    generator = np.random.default_rng(0)
    return np.array([values[generator.integers(len(values), size=len(values))].mean(axis=0) for _ in range(RESAMPLES)])
