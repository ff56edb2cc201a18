"""What a step's episodes tell beyond their mean metrics, by hand."""

from __future__ import annotations

import pytest
from support.runs.run_folders import episode

from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.run.episode_signals import StepSignals


def signals(*episodes, best: float = 1.0) -> dict[str, float]:
    step = StepSignals(R1_SEARCHER_TINY)
    for each in episodes:
        step.add(each)
    return step.values(best)


def test_the_signals_of_a_step_by_hand():
    values = signals(
        episode(
            "a",
            0.0,
            "I look . <|begin_of_query|> x y <|end_of_query|>",
            "So . </think> <answer> b c </answer>",
        ),
        episode("a", 0.0, "one two", queries=["X  y", "x Y", "z"]),
        episode("b", 1.0, "one two <|begin_of_documents|>"),
        episode("b", 1.0, "one two", logprob=-1.5),
        episode("c", 0.5, "broken", reason="retriever_error"),
    )
    assert values["episodes/dead_groups"] == 0.5, "a is; b is solved"
    assert values["episodes/think_words"] == (5 + 2 + 3 + 2) / 4
    assert values["episodes/forged"] == 0.25
    assert values["episodes/repeated_queries"] == pytest.approx(1 / 3)
    assert values["episodes/reward_error"] == pytest.approx(0.5), "two groups, with means 0 and 1"
    assert values["episodes/open_entropy"] == 0.5, "of a alone"
    tokens = [7 + 7, 2, 3, 2]
    assert values["episodes/entropy"] == pytest.approx((0.5 * sum(tokens[:3]) + 1.5 * 2) / sum(tokens))


def test_signals_of_nothing():
    assert signals() == {} and signals(episode("a", 0.0, "x", reason="retriever_error")) == {}
    one = signals(episode("a", 1.0, "x y", logprob=None))
    assert "episodes/entropy" not in one and "episodes/reward_error" not in one and one["episodes/dead_groups"] == 0.0
    assert signals(episode("a", 0.0, "never closed <answer> a b"))["episodes/think_words"] == 2
