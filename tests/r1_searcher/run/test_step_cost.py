"""A step's time taken apart."""

from __future__ import annotations

import pytest

from r1_searcher.run.step_cost import step_cost


def step(number, **changes):
    """6 s of generation, whose episodes took 4 s: 2 s engine, 1 s search, 0.4 s reward, 0.6 s the rest."""
    line = {
        "step": number,
        "time": 20.0 * number,
        "timing/generation": 6.0,
        "timing/make_experience": 1.0,
        "timing/ppo_train": 2.0,
        "timing/broadcast": 0.5,
        "timing/step_total": 9.5,
        "seconds/episode": 4.0,
        "seconds/engine": 2.0,
        "seconds/retrieval": 1.0,
        "seconds/reward": 0.4,
    }
    return {**line, **changes}


def test_phases():
    cost = step_cost([step(1, **{"timing/generation": 99.0}), step(2), step(3)])
    assert cost.steps == 2, "the first step warms up"
    assert dict(cost.seconds) == pytest.approx(
        {
            "generate": 3.0,  # 6 x 2/4
            "retrieve": 1.5,
            "reward": 0.6,
            "rest of the rollout": 0.9,
            "experience": 1.0,
            "update": 2.0,
            "sync": 0.5,
            "save and log": 10.5,  # 20 s from step to step, less 9.5
        }
    )
    assert cost.total == pytest.approx(20.0)
    assert "generate" in cost.table() and "15.0 %" in cost.table()


def test_a_pause_between_two_attempts_is_not_saving():
    """100 steps, the second half of them played after a night."""
    night = 8 * 3600
    steps = [step(number, time=20.0 * number + night * (number > 50)) for number in range(1, 101)]
    assert step_cost(steps, attempts=(0, 50)).seconds["save and log"] == pytest.approx(10.5)


def test_a_checkpoint_every_ten_steps_is_saving():
    steps = [step(number, time=20.0 * number + 60 * (number // 10)) for number in range(1, 42)]
    assert step_cost(steps).seconds["save and log"] == pytest.approx(10.5 + 60 / 10)


def test_steps_that_the_host_did_not_log_are_not_saving():
    assert step_cost([step(1), step(2), step(7, time=9999.0)]).seconds["save and log"] == pytest.approx(10.5)


def test_one_step_and_none():
    assert step_cost([step(1)]).steps == 1
    assert step_cost([]) is None and step_cost([{"step": 1, "time": 0.0}]) is None
