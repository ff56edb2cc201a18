"""Episodes without trained tokens, which is what a failed search leaves, in OpenRLHF's means.

`masked_mean` divides by the number of tokens of the mask: 0/0 for such an episode, so that a step with one of them has
NaN in the curves of KL, clipping and the engine's distance. Where every rank's micro-batch is such an episode
(micro-batches of one, or of one long episode by tokens), the actor's statistics divide by zero tokens, and the
training ends with a `ZeroDivisionError`. Neither reaches the loss, which is normalised over the whole update. Here an
empty mean is 0, and an empty micro-batch weighs next to nothing.
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


def _patch_actor(module: ModuleType) -> None:
    step = module.ActorPPOTrainer.training_step

    @wraps(step)
    def training_step(self: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        status = step(self, *arguments, **options)
        return {**status, "num_action_tokens": max(status["num_action_tokens"], NEXT_TO_NOTHING)}

    module.ActorPPOTrainer.training_step = training_step


PATCHES = (
    HostPatch("openrlhf.models.utils", "return (tensor * mask).sum(dim=dim) / mask.sum(dim=dim)", _patch_masked_mean),
    HostPatch("openrlhf.trainer.ray.ppo_actor", "merged_status[k] = value / denom", _patch_actor),
)
