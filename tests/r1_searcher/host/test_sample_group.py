"""What OpenRLHF makes of the rewards that it is handed, by its own function, and how a group of samples hands them."""

from __future__ import annotations

import asyncio
import re
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.host.sample_group import SampleGroups, on_grid

COMPARING = ("rloo", "reinforce_baseline", "dr_grpo", "group_norm")
"""Estimators that hold a sample against the others of its question."""

F1 = sorted({Fraction(2 * common, words) for words in range(2, 41) for common in range(1, words // 2 + 1)})
VALUES = sorted(
    {float(value) + penalty for value in (*F1, 0) for penalty in (0, -1, -2)}
    | {0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.5, 2.0, -0.05, 0.95, 1.2}
)
"""Every F1 of answers of up to 20 words, with each system's penalty for the format, and constants of the rewards."""


@pytest.fixture(scope="module")
def advantages():
    """OpenRLHF's advantages of rewards `[questions, samples]`, each sample one token long."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    from r1_searcher.host import cpu

    cpu.install()
    torch = pytest.importorskip("torch")
    maker = pytest.importorskip("openrlhf.trainer.ppo_utils.experience_maker").RemoteExperienceMaker
    from openrlhf.trainer.ppo_utils.experience import Experience

    def compute(estimator: str, rewards, trained=None, tokens: int = 1):
        rewards = torch.tensor(rewards, dtype=torch.float32)
        samples = rewards.numel()
        mask = torch.ones(samples, tokens, dtype=torch.bool)
        if trained is not None:
            mask &= torch.tensor(trained).reshape(samples, 1)
        args = SimpleNamespace(
            rollout=SimpleNamespace(n_samples_per_prompt=rewards.shape[1], max_new_tokens=None),
            reward=SimpleNamespace(clip_range=(-10, 10), overlong_buffer_len=None, stop_properly_penalty_coef=None),
            algo=SimpleNamespace(
                advantage=SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=False)
            ),
        )
        host = SimpleNamespace(
            strategy=SimpleNamespace(args=args), kl_ctl=SimpleNamespace(value=0.0), advantage_estimator=estimator
        )
        host.get_cumulative_returns = maker.get_cumulative_returns.__get__(host)
        experience = Experience(
            index=list(range(samples)),
            rewards=rewards.flatten(),
            action_mask=mask,
            kl=torch.zeros(samples, tokens),
            info={},
        )
        (done,) = maker.compute_advantages_and_returns(host, [experience])
        return done.advantages[:, 0].reshape(rewards.shape)

    yield compute
    patch.undo()


@pytest.mark.parametrize("estimator", COMPARING)
def test_equal_rewards_get_no_gradient(advantages, estimator):
    for samples in range(2, 17):
        found = advantages(estimator, [[on_grid(value)] * samples for value in VALUES])
        assert found.abs().max() == 0.0, samples


def test_the_host_still_divides_a_rounding_error_by_1e_9(advantages):
    """When this fails the host has changed, and the grid may no longer be needed."""
    found = advantages("group_norm", [[0.1] * 8, [2 / 3] * 8])
    assert found[0, 0] < -7 and found[1, 0] == 10.0


def test_the_reproduction_for_the_host_prints_what_its_page_says(advantages, capsys):
    """`advantages` has made OpenRLHF importable."""
    page = (Path(__file__).parents[3] / "docs/openrlhf_group_norm.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(script, "openrlhf_group_norm.md", "exec"), {})
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    assert printed == [-7.4506] * 8 + [10.0] * 8


@given(st.floats(-10, 10))
def test_the_grid_moves_a_reward_by_less_than_half_a_thousandth(reward):
    assert abs(on_grid(reward) - reward) <= 1 / 2048


@pytest.mark.parametrize("estimator", COMPARING)
def test_a_failed_episode_moves_no_solved_sibling_and_no_other_question(advantages, estimator):
    rewards = [[1.0] * 8 for _ in range(8)]
    trained = [[True] * 8 for _ in range(8)]
    trained[0][3] = False
    rewards[0][3] = fmean(rewards[0][:3])
    assert advantages(estimator, rewards, trained).abs().max() == 0.0
    rewards[0][3] = 0.0  # what was handed over before
    blamed = advantages(estimator, rewards, trained)
    assert blamed[0, 0] > 0.1
    if estimator == "reinforce_baseline":
        assert blamed[0, 0].item() == pytest.approx(2.83, abs=0.01), "in a batch that is solved otherwise"


@pytest.mark.parametrize("samples", [4, 5, 8, 16])
@pytest.mark.parametrize("estimator", [*COMPARING, "reinforce"])
def test_the_others_advantages_are_those_without_the_failed_one(advantages, estimator, samples):
    """Exact where the estimator subtracts the group's mean; rloo and group_norm also scale by the group's size."""
    others = [on_grid(1 / (number + 2)) for number in range(samples - 1)]
    # A second question keeps the batch's normalisation from being that of one group.
    fine = [on_grid(number / samples) for number in range(samples)]
    with_failed = advantages(
        estimator, [[*others, fmean(others)], fine], [[*([True] * (samples - 1)), False], [True] * samples]
    )
    without = advantages(estimator, [others])
    scale = {
        "rloo": samples * (samples - 2) / (samples - 1) ** 2,
        "group_norm": ((samples - 1) / (samples - 2)) ** 0.5,
    }.get(estimator, 1.0)
    if estimator in ("reinforce", "reinforce_baseline"):  # normalised over the batch: compare the order and the zero
        order = with_failed[0, : samples - 1].argsort()
        assert order.tolist() == without[0].argsort().tolist()
        return
    assert with_failed[0, : samples - 1].tolist() == pytest.approx((without[0] * scale).tolist(), abs=1e-5)


def test_a_failed_sample_waits_for_its_siblings_and_gets_their_mean():
    async def play():
        groups, shared = SampleGroups(4), object()
        group = groups.of(shared)
        assert groups.of(shared) is group and groups.of(object()) is not group
        groups.end(group, None)
        waiting = asyncio.create_task(group.mean_reward())
        for reward in (1.0, 0.5):
            groups.end(group, reward)
        await asyncio.sleep(0)
        assert not waiting.done()
        groups.end(group, 0.0)
        return await waiting, len(groups)

    assert asyncio.run(play()) == (0.5, 1)


def test_a_group_of_failed_samples_gets_zero():
    async def play():
        groups = SampleGroups(2)
        group = groups.of("parameters")
        groups.end(group, None)
        groups.end(group, None)
        return await group.mean_reward()

    assert asyncio.run(play()) == 0.0


def test_the_stage_of_a_group_is_that_of_its_first_sample():
    group = SampleGroups(3).of("parameters")
    assert [group.begin(stage) for stage in (1, 1, 2)] == [1, 1, 1]
    assert SampleGroups(3).of("parameters").begin(2) == 2
