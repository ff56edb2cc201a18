"""Documents in the loss (`--no-document-mask`) beside OpenRLHF's correction for the engine's log-probs.

`PolicyLoss` weighs a token by how likely it is to the trainer in proportion to the engine, and drops it where the two
are far apart. A document was sampled by neither: OpenRLHF's own multi-turn executor gives its tokens the log-prob 0,
which is a probability of 1, so that most of them would be dropped. Here they come as NaN (`NO_LOG_PROB`) and count as
equally likely to both: their weight is 1, as without the correction, and the ablation differs from the run that it is
compared with by the mask alone. They enter `vllm_kl` as tokens without any distance.
"""

from __future__ import annotations

import math
from functools import wraps
from types import ModuleType
from typing import Any

from r1_searcher.host.patches.host_patch import HostPatch

NO_LOG_PROB = math.nan
"""Log-prob of a trained token that no policy sampled."""


def _patch_loss(module: ModuleType) -> None:
    forward = module.PolicyLoss.forward

    @wraps(forward)
    def with_documents(
        self: Any,
        log_probs: Any,
        old_log_probs: Any,
        advantages: Any,
        action_mask: Any = None,
        rollout_log_probs: Any = None,
        **options: Any,
    ) -> Any:
        if rollout_log_probs is not None:
            rollout_log_probs = rollout_log_probs.where(~rollout_log_probs.isnan(), old_log_probs)
        return forward(self, log_probs, old_log_probs, advantages, action_mask, rollout_log_probs, **options)

    module.PolicyLoss.forward = with_documents


PATCHES = (
    HostPatch("openrlhf.models.loss", "is_log_ratio = (old_log_probs - rollout_log_probs).detach()", _patch_loss),
)
