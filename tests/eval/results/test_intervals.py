"""Coverage of the intervals over questions, also near 0 and 1, and the test of paired differences."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import product
from statistics import fmean

import numpy as np
import pytest

from eval.results.intervals import count_interval, difference_interval, paired_difference, share_interval

QUESTIONS = 250
DRAWS = 500
Draw = Callable[[np.random.Generator, float], np.ndarray]


def zeros_and_ones(generator: np.random.Generator, share: float) -> np.ndarray:
    return (generator.random(QUESTIONS) < share).astype(float)


def f1_values(generator: np.random.Generator, share: float) -> np.ndarray:
    """Half of the answers that are not perfect are worth something, 0.6 on average."""
    wrong = (1 - share) / 1.4
    chances = [wrong, wrong / 2, wrong / 2, 1 - 2 * wrong]
    return generator.choice([0.0, 0.4, 0.8, 1.0], size=QUESTIONS, p=chances)


def mostly_partial(generator: np.random.Generator, share: float) -> np.ndarray:
    """Wrong answers are rare beside those that are nearly right, so a sample often has none of them."""
    wrong = (1 - share) / 2
    return generator.choice([0.0, 2 / 3, 1.0], size=QUESTIONS, p=[wrong, 1.5 * (1 - share), 1 - wrong * 4])


SHARES = (0.18, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.996)


@pytest.mark.parametrize(
    ("draw", "share"),
    [
        *product([zeros_and_ones], (0.004, 0.02, *SHARES)),
        *product([f1_values], SHARES[1:]),
        *product([mostly_partial], SHARES[2:]),
    ],
)
def test_coverage_is_kept_up_to_the_ends(draw: Draw, share: float):
    """The bootstrap covers 0.67 of the draws at 0.996."""
    generator = np.random.default_rng(0)
    found = [share_interval(draw(generator, share).tolist()) for _ in range(DRAWS)]
    assert fmean(low <= share <= high for low, high in found) >= 0.93
    theory = 2 * 1.96 * (share * (1 - share) / QUESTIONS) ** 0.5
    assert fmean(high - low for low, high in found) < 1.1 * theory + 2 / QUESTIONS  # and by no width beyond need


def test_shares_have_the_limits_of_clopper_and_pearson():
    """Of published tables: 250 of 250, 0 of 10, 7 of 10."""
    assert share_interval([1.0] * 250) == (0.9854, 1.0)
    assert share_interval([0.0] * 10) == (0.0, 0.3085)
    assert share_interval([1.0] * 7 + [0.0] * 3) == (0.3475, 0.9333)


def test_values_outside_of_their_range_are_refused():
    with pytest.raises(ValueError, match=r"in 0\.\.1, found 0\.5 to 1\.5"):
        share_interval([0.5, 1.5])


def test_numbers_of_searches_have_students_interval():
    assert count_interval([1.0, 2.0, 3.0]) == (-0.4841, 4.4841)  # 2 -+ 4.3027 / sqrt(3)
    assert count_interval([2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("gain", "loss"), [(0.005, 0.005), (0.02, 0.0), (0.004, 0.0), (0.05, 0.05), (0.2, 0.2), (0.4, 0.1)]
)
def test_differences_are_covered_also_where_few_questions_differ(gain: float, loss: float):
    generator = np.random.default_rng(0)
    draws = generator.choice([1.0, -1.0, 0.0], size=(DRAWS, QUESTIONS), p=[gain, loss, 1 - gain - loss])
    found = [difference_interval(differences) for differences in draws]
    assert fmean(low <= gain - loss <= high for low, high in found) >= 0.93


@pytest.mark.parametrize(
    ("wins", "losses", "p_value"),
    [(5, 0, 0.0625), (6, 0, 0.0312), (1, 0, 1.0), (0, 0, 1.0), (7, 1, 0.0703), (9, 1, 0.0215)],
)
def test_few_differing_questions_get_the_exact_sign_test(wins, losses, p_value):
    first = [0.0] * wins + [1.0] * losses + [1.0] * 100
    second = [1.0] * wins + [0.0] * losses + [1.0] * 100
    assert paired_difference(first, second).p_value == pytest.approx(p_value, abs=1e-4)


def test_many_differing_questions_are_tested_alike():
    """20 wins and 7 losses, too many for all combinations of signs: the sign test gives 0.0192."""
    found = paired_difference([0.0] * 20 + [1.0] * 7, [1.0] * 20 + [0.0] * 7)
    assert found.p_value == pytest.approx(0.0192, abs=0.004)


@pytest.mark.parametrize(("questions", "p_value"), [(40, 0.6503), (300, 0.4395), (1000, 0.0943)])
def test_a_p_value_does_not_depend_on_how_many_signs_are_drawn_at_once(questions, p_value):
    """The values are those of one draw of all signs; 300 questions take three draws, 1,000 take ten."""
    first, second = differing(questions)
    assert paired_difference(first, second).p_value == p_value


def test_memory_does_not_grow_with_the_questions():
    """All signs of 1,000 questions at once are 160 MB."""
    first, second = differing(1000)
    tracemalloc.start()
    paired_difference(first, second)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40e6


def differing(questions: int) -> tuple[list[float], list[float]]:
    """Values of two runs that differ on every question."""
    differences = np.random.default_rng(questions).choice([-1, -0.5, 2 / 3, 1.0], size=questions)
    return np.maximum(-differences, 0).tolist(), np.maximum(differences, 0).tolist()


def test_runs_that_agree_everywhere_may_still_differ_on_other_questions():
    found = paired_difference([1.0] * 250, [1.0] * 250)
    assert found.interval == (-0.0146, 0.0146) and found.p_value == 1.0
