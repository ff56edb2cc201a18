"""Flags that would silently train something else are refused in one line; their neighbours are taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.host.combinations import check_combinations, within_unit_interval
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.reward.rewards import REWARDS, find_reward

STAGE_2 = find_recipe("tiny.stage2")
WITHOUT_MASK = replace(STAGE_2, train_on_documents=True)
CORRECTED = ("--algo.advantage.is_correction_level", "token")
FILTERED = ("--algo.dynamic_filtering_enable",)


def check(*flags: str, recipe=STAGE_2, reward_url: str = "") -> None:
    check_combinations(recipe, build_command(recipe, Path("/run"), flags, Device.CPU), reward_url)


@pytest.mark.parametrize(
    ("flags", "recipe", "reason"),
    [
        (("--algo.advantage.estimator", "gae", "--algo.advantage.lambd", "0.95"), STAGE_2, "lambd 1"),
        (("--algo.advantage.estimator", "gae", "--algo.advantage.gamma", "0.99"), STAGE_2, "gamma 1"),
        (("--algo.advantage.estimator", "reinforce", "--algo.advantage.gamma", "0.99"), STAGE_2, "gamma 1"),
        (FILTERED, STAGE_2, "--algo.dynamic_filtering_range"),
        (CORRECTED, WITHOUT_MASK, "is_correction_level off"),
        (("--train.async_enable",), WITHOUT_MASK, "is_correction_level off"),
        (("--reward.overlong_buffer_len", "50"), STAGE_2, "punish retrieving"),
        (("--algo.kl.target", "6"), STAGE_2, "NaN"),
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
        (
            ("--algo.advantage.estimator", "group_norm", "--algo.advantage.gamma", "0.99"),
            STAGE_2,
        ),  # the host sets it to 1
        ((*FILTERED, "--algo.dynamic_filtering_range", "-2", "1"), STAGE_2),
        (FILTERED, replace(STAGE_2, reward=REWARDS["search_r1.em"])),
        ((), WITHOUT_MASK),
        ((*CORRECTED, "--algo.kl.init_coef", "0.001"), STAGE_2),
    ],
)
def test_the_neighbours_are_taken(flags, recipe):
    check(*flags, recipe=recipe)


def test_the_values_of_a_reward_from_elsewhere_are_unknown():
    recipe = replace(STAGE_2, reward=REWARDS["search_r1.em"])
    with pytest.raises(InputError, match="dynamic_filtering_range"):
        check(*FILTERED, recipe=recipe, reward_url="http://127.0.0.1:9000/get_reward")


def test_which_rewards_stay_within_0_and_1():
    inside = {name for name, reward in REWARDS.items() if within_unit_interval([reward])}
    assert inside == {
        "r1_searcher.stage1",
        "search_r1.em",
        "search_r1.format",
        "research.code",
        "research.paper",
        "zerosearch.f1",
        "zerosearch.containment",
    }
    assert within_unit_interval([find_reward("f1=0.5,retrieved=0.5")])
    assert not within_unit_interval([find_reward("f1=1,retrieved=0.5")])
    assert not within_unit_interval([find_reward("searches=0.1")])
