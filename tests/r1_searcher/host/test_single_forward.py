"""Where a rollout makes one update, its episodes go through the model once, and the update is the host's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.host import cpu
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.host.patches import single_forward
from r1_searcher.recipe.recipe import find_recipe

ONCE = {
    **{"--rollout.batch_size": "2", "--rollout.n_samples_per_prompt": "2", "--train.batch_size": "4"},
    **{"--rollout.micro_batch_size": "2", "--train.max_epochs": "1", "--algo.kl.init_coef": "0"},
    **{"--algo.advantage.estimator": "reinforce_baseline", "--algo.advantage.is_correction_level": "token"},
}
OFTEN = {
    "two steps per rollout": {"--train.batch_size": "2"},
    "two passes over a rollout": {"--train.max_epochs": "2"},
    "a reward for staying close to a reference model": {"--algo.kl.init_coef": "0.001"},
}
ACTIONS = 5


def flags_of(changed: dict[str, str], *further: str) -> Any:
    """OpenRLHF's flags of a run, nested as it reads them."""
    hierarchize = pytest.importorskip("openrlhf.utils.config").hierarchize
    words = [*(word for flag in {**ONCE, **changed}.items() for word in flag), *further]
    return hierarchize(build_command(find_recipe("tiny.stage1"), Path("/run"), words, Device.CPU).flags)


def test_one_step_per_rollout_needs_no_old_log_probs():
    assert single_forward.learns_once(flags_of({}))
    assert single_forward.learns_once(flags_of({"--algo.kl.init_coef": "0.001"}, "--algo.kl.use_loss"))


@pytest.mark.parametrize("changed", OFTEN.values(), ids=OFTEN)
def test_otherwise_old_log_probs_are_computed_first(changed):
    assert not single_forward.learns_once(flags_of(changed))


class Group:
    """The actors of a run, as the experience maker sees them: what they are asked is written down."""

    def __init__(self, log_probs):
        self.asked: list[str] = []
        self._log_probs = log_probs

    def async_run_method_batch(self, method_name, **batches):
        import ray

        self.asked.append(method_name)
        return ray.put([[self._log_probs(mask)] for mask in batches["action_mask"]])

    def async_run_method(self, method_name):
        self.asked.append(method_name)
        return []


@pytest.fixture(scope="module")
def host():
    """OpenRLHF's experience maker, patched, with references that hold what was put for Ray's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_SEARCHER_CPU", "1")
        cpu.install()
        maker = pytest.importorskip("openrlhf.trainer.ppo_utils.experience_maker")
        import ray

        patch.setattr(ray, "put", lambda value: value)
        patch.setattr(ray, "get", lambda value: value)
        for method in ("_dispatch_forward", "make_experience"):
            patch.setattr(maker.RemoteExperienceMaker, method, getattr(maker.RemoteExperienceMaker, method))
        for each in single_forward.PATCHES[:1]:
            each.apply(maker)
        yield maker


def experiences(host, changed, group):
    """What the experience maker makes of four episodes of two questions, in two micro-batches."""
    import torch
    from openrlhf.trainer.ppo_utils.experience import Experience

    flags = flags_of(changed)
    strategy = SimpleNamespace(args=flags)
    maker = host.RemoteExperienceMaker(group, None, None, None, SimpleNamespace(value=0.0), strategy, None)
    samples = [
        Experience(
            index=[2 * place, 2 * place + 1],
            sequences=torch.ones(2, ACTIONS + 1, dtype=torch.long),
            attention_mask=torch.ones(2, ACTIONS + 1, dtype=torch.long),
            action_mask=torch.ones(2, ACTIONS, dtype=torch.bool),
            rewards=torch.tensor([0.0, 1.0 + place]),
            info={},
        )
        for place in range(2)
    ]
    return maker.compute_advantages_and_returns(maker.make_experience(samples))


def test_the_actor_is_asked_for_old_log_probs_only_where_they_can_differ(host):
    import torch

    once, often = (Group(lambda mask: torch.zeros(mask.shape)) for _ in range(2))
    made = experiences(host, {}, once)
    usual = experiences(host, OFTEN["two passes over a rollout"], often)
    assert once.asked == [] and often.asked == ["forward"]
    assert all(each.action_log_probs is None for each in made)
    assert all(each.action_log_probs is not None for each in usual)
    assert all(torch.equal(each.advantages, other.advantages) for each, other in zip(made, usual, strict=True))


LOGITS = st.lists(st.floats(-3, 3), min_size=2 * ACTIONS, max_size=2 * ACTIONS)


@pytest.mark.parametrize("level", ["off", "token", "seq"])
@given(logits=LOGITS, advantages=LOGITS, shifts=LOGITS, actions=st.lists(st.booleans(), min_size=10, max_size=10))
def test_loss_gradient_and_distance_are_the_hosts(level, logits, advantages, shifts, actions):
    torch = pytest.importorskip("torch")
    policy_loss = pytest.importorskip("openrlhf.models.loss").PolicyLoss(is_correction_level=level)
    mask = torch.tensor(actions).view(2, ACTIONS)
    mask[:, 0] = True  # a sample without actions has no mean
    batch = {"action_mask": mask, "batch_num_tokens": float(mask.sum()), "global_batch_size": 2.0}

    def updated(loss, old):
        parameters = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
        log_probs = torch.nn.functional.logsigmoid(parameters).view(2, ACTIONS) * mask
        engine = log_probs.detach() + 0.1 * torch.tensor(shifts).view(2, ACTIONS) * mask
        weights = torch.tensor(advantages).view(2, ACTIONS)
        value, *measured = loss(log_probs, old(log_probs), weights, rollout_log_probs=engine, **batch)
        value.backward()
        return value, parameters.grad, measured

    host_way = updated(policy_loss, lambda log_probs: log_probs.detach().clone())
    own_way = updated(single_forward.of_own_log_probs(policy_loss), lambda _: None)
    for expected, found in zip(host_way[:2], own_way[:2], strict=True):
        assert torch.equal(expected, found)
    assert [None if each is None else each.item() for each in host_way[2]] == [
        None if each is None else each.item() for each in own_way[2]
    ]
