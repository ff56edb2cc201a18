"""Flags that would silently train something else are refused in one line; their neighbours are taken."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.launch.combinations import bounds, check_combinations, most_queries
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.reward.rewards import REWARDS, compose, find_reward

STAGE_2 = find_recipe("tiny.stage2")
WITHOUT_MASK = replace(STAGE_2, train_on_documents=True)
CORRECTED = ("--algo.advantage.is_correction_level", "token")
FILTERED = ("--algo.dynamic_filtering_enable",)


HEAVY = replace(STAGE_2, reward=compose("f1=6,format_broken=-5"))
OVERSAMPLED = ("--train.async_enable", "--rollout.batch_size", "8", "--rollout.vllm_generate_batch_size", "16")


def check(*flags: str, recipe=STAGE_2, reward_url: str = "", counts_progress: bool = False) -> None:
    command = build_command(recipe, Path("/run"), flags, Device.CPU)
    check_combinations(recipe, command, reward_url, counts_progress=counts_progress)


@pytest.mark.parametrize(
    ("flags", "recipe", "reason"),
    [
        (("--algo.advantage.estimator", "gae", "--algo.advantage.lambd", "0.95"), STAGE_2, "lambd 1"),
        (("--algo.advantage.estimator", "gae", "--algo.advantage.gamma", "0.99"), STAGE_2, "gamma 1"),
        (("--algo.advantage.estimator", "reinforce", "--algo.advantage.gamma", "0.99"), STAGE_2, "gamma 1"),
        (("--reward.overlong_buffer_len", "50"), STAGE_2, "punish retrieving"),
        (("--reward.stop_properly_penalty_coef", "0.3"), STAGE_2, "punish retrieving"),
        (("--algo.kl.target", "6"), STAGE_2, "without distance"),
        (("--algo.advantage.estimator", "reinforce_baseline"), HEAVY, "clip_range"),
        (("--algo.advantage.estimator", "reinforce"), replace(STAGE_2, reward=compose("f1=11")), "clip_range"),
        (("--rollout.max_new_tokens", "64"), STAGE_2, "--turn-tokens"),
        (("--eval.dataset", "dev.jsonl"), STAGE_2, "eval.run"),
        (("--train.dynamic_batch_enable",), STAGE_2, "zero_stage 3"),
    ],
)
def test_what_would_train_something_else_is_refused(flags, recipe, reason):
    with pytest.raises(InputError, match=reason) as refused:
        check(*flags, recipe=recipe)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "recipe"),
    [
        (("--algo.advantage.estimator", "gae"), STAGE_2),
        (("--train.dynamic_batch_enable", "--ds.zero_stage", "3"), STAGE_2),
        (
            ("--algo.advantage.estimator", "group_norm", "--algo.advantage.gamma", "0.99"),
            STAGE_2,
        ),  # the host sets it to 1
        ((*FILTERED, "--algo.dynamic_filtering_range", "-2", "1"), STAGE_2),
        (FILTERED, STAGE_2),
        ((), WITHOUT_MASK),
        (CORRECTED, WITHOUT_MASK),
        ((*CORRECTED, "--algo.kl.init_coef", "0.001"), STAGE_2),
        (("--algo.advantage.estimator", "reinforce"), HEAVY),
        (("--algo.advantage.estimator", "group_norm"), HEAVY),
        (("--algo.advantage.estimator", "reinforce_baseline", "--reward.clip_range", "-11", "11"), HEAVY),
    ],
)
def test_the_neighbours_are_taken(flags, recipe):
    check(*flags, recipe=recipe)


def test_oversampling_does_not_tell_the_step_of_an_episode():
    with pytest.raises(InputError, match="vllm_generate_batch_size"):
        check(*OVERSAMPLED, counts_progress=True)
    check(*OVERSAMPLED)
    check("--rollout.vllm_generate_batch_size", "4", "--rollout.batch_size", "8", counts_progress=True)


def test_oversampling_beside_checkpoints_would_skip_questions():
    with pytest.raises(
        InputError, match=r"batch_size 16 above .* 8 does not go with --ckpt.save_steps 5: .*skip"
    ) as no:
        check(*OVERSAMPLED, "--ckpt.save_steps", "5")
    assert "\n" not in str(no.value)
    check(*OVERSAMPLED, "--ckpt.save_steps", "-1")
    check(*OVERSAMPLED, "--ckpt.save_steps", "5", "--ckpt.disable_ds")
    check(*OVERSAMPLED[:3], "--ckpt.save_steps", "5")


def test_which_rewards_stay_within_0_and_1():
    inside = {name for name, reward in REWARDS.items() if bounds(reward, math.inf) == (0, 1)}
    assert inside == {
        "r1_searcher.stage1",
        "search_r1.em",
        "search_r1.format",
        "research.code",
        "research.paper",
        "zerosearch.f1",
        "zerosearch.containment",
    }
    assert bounds(find_reward("f1=0.5,retrieved=0.5"), 8) == (0, 1)
    assert bounds(find_reward("f1=1,retrieved=0.5"), 8) == (0, 1.5)
    assert bounds(find_reward("f1=1,searches=-0.1"), 8) == (pytest.approx(-0.8), 1)
    assert bounds(find_reward("searches=0.1"), math.inf) == (0, float("inf"))


def test_a_call_with_three_queries_pays_for_three():
    """Nine calls of at most three queries each, as DeepResearcher's tools take them."""
    priced = compose("f1=1,searches=-0.5")
    tools = replace(find_recipe("deep_researcher.rag"), reward=priced)
    assert bounds(priced, most_queries(tools)) == (-13.5, 1)
    assert bounds(priced, most_queries(replace(STAGE_2, reward=priced))) == (-2, 1)
    with pytest.raises(InputError, match="clip_range"):
        check("--algo.advantage.estimator", "reinforce", recipe=tools)
    check("--algo.advantage.estimator", "reinforce", "--reward.clip_range", "-13.5", "10", recipe=tools)
