"""One forward over an episode instead of two, where a rollout is learned from once.

PPO weighs a token by how much likelier it has become since its rollout, so OpenRLHF computes the log-probs of all
episodes before the update (`RemoteExperienceMaker.make_experience`) and again in it. Where one optimizer step takes the
whole rollout, both are of the same weights, and the ratio is 1: the first forward, a quarter of the arithmetic of an
update, tells nothing. Here the update's own log-probs stand for the old ones, as in TRL's `GRPOTrainer` (one iteration
over one generation batch).

The gradient is the same, up to what two shapes of micro-batch round differently. With several steps per rollout, or a
reward that pays for staying close to a reference model, OpenRLHF's way holds. A model with dropout has a ratio of 1
here, where OpenRLHF compares one drawn with dropout to one without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from r1_searcher.host.patches.host_patch import HostPatch


def learns_once(args: Any) -> bool:
    """Whether a run's flags say that each rollout makes one optimizer step, and nothing else needs old log-probs.

    Args:
        args: OpenRLHF's flags, nested as its parser gives them.
    """
    rollout = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    distance_in_reward = args.algo.kl.init_coef > 0 and not args.algo.kl.use_loss
    return args.train.max_epochs == 1 and args.train.batch_size == rollout and not distance_in_reward


def _patch_experience_maker(module: ModuleType) -> None:
    import ray
    import torch

    dispatch, make = module.RemoteExperienceMaker._dispatch_forward, module.RemoteExperienceMaker.make_experience

    @wraps(dispatch)
    def dispatch_forward(self: Any, group: Any, sync_condition: Any, **batches: Any) -> Any:
        if group is not self.actor_model_group or not learns_once(self.args):
            return dispatch(self, group, sync_condition, **batches)
        copies = self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size
        shaped = [torch.full(mask.shape, torch.nan) for mask in batches["action_mask"]]
        return ray.put([[log_probs] for log_probs in shaped for _ in range(copies)])

    @wraps(make)
    def make_experience(self: Any, samples: list[Any]) -> list[Any]:
        made: list[Any] = make(self, samples)
        if learns_once(self.args):
            for experience in made:
                experience.action_log_probs = None
        return made

    module.RemoteExperienceMaker._dispatch_forward = dispatch_forward
    module.RemoteExperienceMaker.make_experience = make_experience


def _patch_actor(module: ModuleType) -> None:
    init = module.ActorPPOTrainer.__init__

    @wraps(init)
    def with_own_log_probs(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        if learns_once(self.args):
            self.actor_loss_fn = of_own_log_probs(self.actor_loss_fn)

    module.ActorPPOTrainer.__init__ = with_own_log_probs


def of_own_log_probs(loss: Callable[..., Any]) -> Callable[..., Any]:
    """OpenRLHF's `PolicyLoss`, with the log-probs `[samples, actions]` of the update for those before it."""

    def own(log_probs: Any, _old_log_probs: None, *further: Any, **options: Any) -> Any:
        return loss(log_probs, log_probs.detach(), *further, **options)

    return own


PATCHES = (
    HostPatch(
        "openrlhf.trainer.ppo_utils.experience_maker",
        "action_log_probs_ref = self._dispatch_forward(\n            self.actor_model_group,",
        _patch_experience_maker,
    ),
    HostPatch(
        "openrlhf.trainer.ray.ppo_actor",
        "self.actor_loss_fn(\n            action_log_probs,\n            old_action_log_probs,",
        _patch_actor,
    ),
)
