"""Classes of difficulty, quotas, and how the sets are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.questions.sampling import shuffled
from data_prep.select.difficulty import Bounds, Difficulty, Tries
from data_prep.select.question_sets import PLANS, ClassedRow, Quota, draw_question_sets
from foundation.errors import InputError
from r1_searcher.episode.question import QARow


@pytest.mark.parametrize(
    ("made", "right", "expected"),
    [
        (1, True, Difficulty.EASY),
        (9, True, Difficulty.EASY),
        (10, True, Difficulty.MEDIUM),
        (20, True, Difficulty.MEDIUM),
        (20, False, Difficulty.HARD),
        (21, True, Difficulty.HARD),
    ],
)
def test_the_published_bounds(made, right, expected):
    assert Bounds().difficulty(Tries(made, right)) is expected


def test_the_published_plan_has_the_published_sizes():
    sizes = {stage: sum(quota.count or 0 for quota in quotas) for stage, quotas in PLANS["r1_searcher"].items()}
    assert sizes == {"stage1": 350, "stage2": 8148}
    assert str(Quota.parse("a:b:hard=all")) == "a:b:hard=all"
    with pytest.raises(InputError, match="known, easy"):
        Quota.parse("a:difficult=3")


@given(st.permutations(range(12)), st.integers(0, 3))
def test_sets_do_not_depend_on_the_order_and_share_nothing(order, seed):
    classed = [ClassedRow(QARow(str(n), "q", ("a",), "xy"[n % 2]), tuple(Difficulty)[n % 4], 1) for n in range(12)]
    plan = {"stage1": (Quota.parse("x:easy=2"), Quota.parse("*:hard=1")), "stage2": (Quota.parse("*:hard=all"),)}
    drawn = draw_question_sets(plan, [classed[n] for n in order], seed)
    assert drawn == draw_question_sets(plan, classed, seed)
    rows = [row for stage in drawn.values() for row in stage.rows]
    assert len({row.id for row in rows}) == len(rows) == 3
    assert shuffled([classed[n].row for n in order], seed) == shuffled([each.row for each in classed], seed)
