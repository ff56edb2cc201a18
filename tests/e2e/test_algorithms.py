"""Estimators and trainers of the host that no tiny preset uses: two steps each on the real stack, with our episodes."""

from __future__ import annotations

import math

import pytest
from support.processes.e2e_stack import REPO

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CRITIC = ("--algo.advantage.estimator", "gae", "--algo.advantage.lambd", "1.0", "--critic.adam.lr", "1e-3")
ALGORITHMS = {
    "ppo with a critic": (
        *CRITIC,
        *("--critic.model_name_or_path", str(REPO / "data_prep" / "tiny" / "model")),
        *("--algo.kl.init_coef", "1e-3", "--train.colocate_actor_ref"),  # KL in the reward
    ),
    "rloo": ("--algo.advantage.estimator", "rloo"),
    "dr. grpo with dynamic filtering": (
        *("--algo.advantage.estimator", "dr_grpo"),
        "--algo.dynamic_filtering_enable",
        *("--actor.eps_clip_low_high", "0.2", "0.28"),
    ),
    "asynchronous, partial rollout": (
        *("--train.async_enable", "--train.async_queue_size", "1", "--train.partial_rollout_enable"),
    ),
}


@pytest.mark.parametrize("flags", ALGORITHMS.values(), ids=ALGORITHMS)
def test_it_trains(training, world, retriever, flags):
    run = training(1, world / "stage1.jsonl", retriever.url, *flags)
    assert run.finish() == 0, run.console[-2000:]
    metrics = run.metrics()
    assert metrics and all(math.isfinite(line["policy_loss"]) for line in metrics)
    assert any(line["actor_grad_norm"] > 0 for line in metrics)
    assert (run.run_dir / "model").is_dir()
