"""Episodes without trained tokens, which is what a failed search leaves, in OpenRLHF's means.

`masked_mean` divides by the number of tokens of the mask: 0/0 for such an episode, so that a step with one of them has
NaN in the curves of KL, clipping and the engine's distance. Where every rank's micro-batch is such an episode
(micro-batches of one, or of one long episode by tokens), the actor's statistics divide by zero tokens, and the
training ends with a `ZeroDivisionError`. Where a whole update holds no other (one question that always fails, an agent
that does), the loss is 0/0, too, and where a whole rollout does, so is the mean of the advantages. DeepSpeed leaves an
update with NaN out in ZeRO-1 and 2; in ZeRO-3 with bf16 it looks for none, and NaN reaches the weights.

Here an empty mean is 0, an empty micro-batch weighs next to nothing, and an empty update has the gradient 0. It does to
the weights what an update does whose rewards are all equal: nothing, where it is the first; later what the optimizer
does by itself, a step along Adam's decaying mean of earlier gradients, no larger than the one before, and its weight
decay where there is one (OpenRLHF's default is none).
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

from r1_searcher.host.patches.host_patch import HostPatch

NEXT_TO_NOTHING = 1e-6
"""Tokens that an empty micro-batch counts as."""


def _patch_masked_mean(module: ModuleType) -> None:
    def masked_mean(tensor: Any, mask: Any, dim: int | None = None) -> Any:
        if mask is None:
            return tensor.mean(dim=dim)
        return (tensor * mask).sum(dim=dim) / mask.sum(dim=dim).clamp(min=1)

    module.masked_mean = masked_mean  # type: ignore[attr-defined]


def _patch_loss(module: ModuleType) -> None:
    aggregate = module.aggregate_loss

    @wraps(aggregate)
    def aggregate_loss(
        *arguments: Any, batch_num_tokens: Any = None, global_batch_size: Any = None, **options: Any
    ) -> Any:
        counts = {"batch_num_tokens": batch_num_tokens, "global_batch_size": global_batch_size}
        kept = {name: count if count is None else count + (count == 0) for name, count in counts.items()}
        return aggregate(*arguments, **kept, **options)

    module.aggregate_loss = aggregate_loss  # type: ignore[attr-defined]


def _patch_advantages(module: ModuleType) -> None:
    compute = module.RemoteExperienceMaker.compute_advantages_and_returns

    @wraps(compute)
    def compute_advantages_and_returns(self: Any, experiences: list[Any]) -> list[Any]:
        made: list[Any] = compute(self, experiences)
        if not any(experience.action_mask.any() for experience in made):
            for experience in made:
                experience.advantages = experience.advantages.new_zeros(experience.advantages.shape)
        return made

    module.RemoteExperienceMaker.compute_advantages_and_returns = compute_advantages_and_returns


def _patch_actor(module: ModuleType) -> None:
    step = module.ActorPPOTrainer.training_step

    @wraps(step)
    def training_step(self: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        status = step(self, *arguments, **options)
        return {**status, "num_action_tokens": max(status["num_action_tokens"], NEXT_TO_NOTHING)}

    module.ActorPPOTrainer.training_step = training_step


PATCHES = (
    HostPatch("openrlhf.models.utils", "return (tensor * mask).sum(dim=dim) / mask.sum(dim=dim)", _patch_masked_mean),
    HostPatch("openrlhf.models.loss", "return (loss * loss_mask).sum() / batch_num_tokens * dp_size", _patch_loss),
    HostPatch(
        "openrlhf.trainer.ppo_utils.experience_maker",
        "mean = (all_advantages * all_action_masks).sum() / num_actions",
        _patch_advantages,
    ),
    HostPatch("openrlhf.trainer.ray.ppo_actor", "merged_status[k] = value / denom", _patch_actor),
)
