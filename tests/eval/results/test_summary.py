"""The arithmetic of summaries and tables."""

from __future__ import annotations

import pytest

from eval.results.scores import scores_table
from eval.results.summary import SCORES, summarize
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.reward.rewards import RewardResult
from r1_searcher.run.episode_record import EpisodeRecord


def outcome(n: int, *, f1: float, hops: int | None = 1, reason=StopReason.ANSWERED) -> EpisodeRecord:
    """A record whose line says these metrics, whatever its answer is."""
    trajectory = Trajectory(QARow(f"id{n}", "q?", ("a",), hops=hops), (), (), reason, answer="a")
    reward = RewardResult(2 * f1, {}, {"short_answer": f1 >= 0.5})
    return EpisodeRecord(trajectory, reward, dict.fromkeys(SCORES.values(), 1.0) | {"answer/f1": f1})


def interval(records, score):
    return summarize(records)["interval_95"][score]


def test_means_over_all_and_by_hops():
    scores = summarize([outcome(1, f1=1.0), outcome(2, f1=0.5), outcome(3, f1=0.0, hops=2)])
    assert (scores["n"], scores["f1"], scores["em"], scores["reward"]) == (3, 0.5, 1.0, 1.0)
    assert {hops: (block["n"], block["f1"]) for hops, block in scores["by_hops"].items()} == {
        "1": (2, 0.75),
        "2": (1, 0.0),
    }
    assert scores["rules"] == {"short_answer": round(2 / 3, 6)}
    assert scores["stop_reasons"] == {"answered": 3}


def test_retriever_errors_are_left_out_and_counted():
    failed = outcome(2, f1=0.0, reason=StopReason.RETRIEVER_ERROR)
    scores = summarize([outcome(1, f1=1.0), failed])
    assert (scores["n"], scores["f1"], scores["retriever_errors"], scores["agent_errors"]) == (1, 1.0, 1, 0)


def test_a_failed_agent_is_no_failed_search():
    failed = outcome(2, f1=0.0, reason=StopReason.AGENT_ERROR)
    scores = summarize([outcome(1, f1=1.0), failed, failed])
    assert (scores["n"], scores["f1"], scores["retriever_errors"], scores["agent_errors"]) == (1, 1.0, 0, 2)
    assert "retriever_error" not in scores["stop_reasons"]


def test_rows_without_hops_have_no_breakdown():
    assert summarize([outcome(1, f1=1.0, hops=None)])["by_hops"] == {}


def test_intervals_hold_the_mean_narrow_with_n_and_repeat():
    few = [outcome(n, f1=float(n % 2)) for n in range(20)]
    many = [outcome(n, f1=float(n % 2)) for n in range(500)]
    low, high = interval(few, "f1")
    assert low < 0.5 < high
    assert interval(many, "f1")[1] - interval(many, "f1")[0] < (high - low) / 3
    assert summarize(few)["interval_95"] == summarize(few[::-1])["interval_95"]
    assert interval(few, "em") == [0.8316, 1.0]


def test_the_interval_of_a_coin_is_that_of_theory():
    low, high = interval([outcome(n, f1=float(n % 2)) for n in range(400)], "f1")
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.008)  # 0.5 -+ 1.96 * 0.5 / 20


def test_the_table_of_scores():
    table = scores_table({"base": summarize([outcome(1, f1=0.584)])})
    assert "F1 %" in table and "58.4" in table
