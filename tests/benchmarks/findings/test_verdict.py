"""What the seeds of two arms show: intervals, verdicts, power, and what is not compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from support.runs.finding_rows import row

from benchmarks.findings.arms import find_arm
from benchmarks.findings.catalogue import FINDINGS, SEEDS, Contrast, Side
from benchmarks.findings.measures import Curve, HeldOut
from benchmarks.findings.rows import Rows
from benchmarks.findings.verdict import Paired, Standing, corrected, smallest_shown
from foundation.errors import InputError


def paired(differences: list[float], claimed: int = 1) -> Paired:
    contrast = Contrast("x", Side("mask"), Side("no_mask"), claimed)
    return Paired(contrast, tuple(range(len(differences))), tuple(differences), (0.0,) * len(differences))


@pytest.mark.parametrize(
    ("differences", "claimed", "verdict"),
    [
        ([0.1, 0.11, 0.09, 0.1, 0.1], 1, Standing.AGREES),
        ([0.1, 0.11, 0.09, 0.1, 0.1], -1, Standing.OPPOSITE),
        ([0.1, 0.11, 0.09, 0.1, 0.1], 0, Standing.DIFFERS),
        ([-0.1, -0.11, -0.09], 1, Standing.OPPOSITE),
        ([0.1, -0.1, 0.05, -0.04], 1, Standing.NO_DIFFERENCE),
        ([0.1], 1, Standing.ONE_SEED),
    ],
)
def test_the_verdict_is_the_intervals(differences: list[float], claimed: int, verdict: Standing) -> None:
    assert paired(differences, claimed).verdict is verdict


def test_the_interval_is_students() -> None:
    found = paired([0.02, 0.06, 0.04, 0.10, 0.03])
    low, high = found.interval or (0.0, 0.0)
    assert found.mean == pytest.approx(0.05)
    assert (low, high) == pytest.approx((0.05 - 0.03926, 0.05 + 0.03926), abs=2e-4)  # 2.776 * 0.03162 / sqrt(5)


def test_p_values_are_students_and_are_raised_for_their_number() -> None:
    differences = [0.02, 0.06, 0.04, 0.10, 0.03]
    assert paired(differences).p_value == pytest.approx(ttest_1samp(differences, 0).pvalue)
    assert paired([-each for each in differences]).p_value == paired(differences).p_value
    assert paired([0.1]).p_value is None
    found = corrected({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})  # the textbook's example of Holm


def test_power_is_what_simulated_seeds_show() -> None:
    smallest = smallest_shown(0.1, 5)
    random = np.random.default_rng(0)
    shown = [paired(list(random.normal(smallest, 0.1, 5))).verdict is Standing.AGREES for _ in range(4000)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.02)
    assert paired([0.1]).smallest is None and smallest_shown(0.0, 5) == 0


def test_only_seeds_of_both_sides_are_compared(filled: Rows) -> None:
    filled.add(find_arm("mask"), row("mask", 99, 0.1))
    rows = {name: filled.of(find_arm(name)) for name in ("mask", "no_mask")}
    found = Paired.of(FINDINGS["mask"].primary, rows)
    assert found is not None and found.seeds == SEEDS and found.mean == pytest.approx(0.08)
    assert Paired.of(FINDINGS["mask"].primary, {"mask": {}, "no_mask": rows["no_mask"]}) is None


@pytest.mark.parametrize("shared", ["world", "base"])
def test_rows_of_different_worlds_are_not_compared(filled: Rows, shared: str) -> None:
    filled.add(find_arm("mask"), row("mask", 12, 0.9, **{shared: "another"}))
    rows = {name: filled.of(find_arm(name)) for name in ("mask", "no_mask")}
    with pytest.raises(InputError, match=f"seed 12, were played with another {shared}"):
        Paired.of(FINDINGS["mask"].primary, rows)


def test_a_stretch_of_a_curve() -> None:
    curve = Curve("x", 0.5, 1.0)
    assert curve.of({"curves": {"x": [0.0, 0.0, None, 4.0]}}) == 4.0
    for empty in ({"curves": {}}, {"curves": {"x": [1.0, 1.0, None, None]}}):
        with pytest.raises(InputError, match="the row of a, seed 3, has no"):
            curve.of({"arm": "a", "seed": 3, **empty})
    with pytest.raises(InputError, match="web-like"):
        HeldOut(corpus="web_like").of(row("mask", 10, 0.5))
