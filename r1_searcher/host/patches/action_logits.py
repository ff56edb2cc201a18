"""Logits where something is trained, and nowhere else.

OpenRLHF's actor computes the logits of every token, takes the log-prob of each, and multiplies those that are no
actions by 0 (`Actor.forward`); its fine-tuning does so with what is no target. Of an episode that searches, most tokens
are the prompt's and the documents'. A row of logits is as long as the vocabulary, so that in a small model the head is
a good part of the work, and in any model the logits are its largest tensor. Here the head sees the positions at which
any sample of the micro-batch has an action: Hugging Face's models take them as `logits_to_keep`.

Log-probs are the same, and 0 elsewhere, as before. Ring attention, images and models without `logits_to_keep` are
computed as OpenRLHF does it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, wraps
from types import ModuleType
from typing import Any

from r1_searcher.host.patches.host_patch import HostPatch

TARGETS: ContextVar[Any] = ContextVar("targets", default=None)
"""Loss mask `[samples, tokens - 1]` of the micro-batch that fine-tuning is about to compute."""


def _patch_actor(module: ModuleType) -> None:
    forward = module.Actor.forward

    @wraps(forward)
    def forward_of_actions(
        self: Any, sequences: Any, action_mask: Any = None, attention_mask: Any = None, **options: Any
    ) -> Any:
        trained = TARGETS.get() if action_mask is None and options.get("return_logprobs") else action_mask
        if trained is None or not takes_positions(self, options):
            return forward(self, sequences, action_mask, attention_mask, **options)
        return _log_probs(module, self, sequences, trained, attention_mask, options)

    module.Actor.forward = forward_of_actions


def takes_positions(actor: Any, options: dict[str, Any]) -> bool:
    """Whether the actor's model computes the logits of chosen positions, for this call."""
    known = {"return_output", "return_logprobs", "return_entropy", "ring_attn_group", "packed_seq_lens"}
    further = {name for name, value in options.items() if name not in known and value}
    if getattr(actor, "is_vlm", False) or options.get("ring_attn_group") is not None or further:
        return False
    model = getattr(actor.model, "module", actor.model)  # DeepSpeed wraps it
    return "logits_to_keep" in _arguments(type(model).forward)


@cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def _log_probs(
    module: ModuleType, actor: Any, sequences: Any, trained: Any, attention_mask: Any, options: dict[str, Any]
) -> Any:
    """What `Actor.forward` returns: log-probs of the mask's shape, and the model's output where it is asked for.

    Args:
        module: `openrlhf.models.actor`.
        actor: OpenRLHF's `Actor`.
        sequences: ids `[samples, tokens]`.
        trained: mask `[samples, columns]`; its last column is the prediction of the last token.
        attention_mask: `[samples, tokens]`.
        options: of the call.
    """
    samples, tokens = sequences.shape
    predicting = slice(tokens - 1 - trained.shape[1], tokens - 1)
    wanted = trained.new_zeros(sequences.shape, dtype=bool)
    wanted[:, predicting] = trained.bool()
    if not wanted.any():  # only failed episodes: one prediction, times 0, so that there is something to differentiate
        wanted[0, 0] = True
    if actor.packing_samples:
        ids, position_ids, labels, _, indices = module.unpad_and_slice_tensor(sequences, attention_mask, None)
        columns = wanted.flatten()[indices].nonzero().flatten()
        places, attention = indices[columns], None
    else:
        ids, labels, attention = sequences, sequences.roll(-1, dims=1), attention_mask
        position_ids = attention_mask.long().cumsum(-1) - 1
        position_ids.masked_fill_(attention_mask == 0, 1)
        columns = wanted.any(dim=0).nonzero().flatten()
        rows = tokens * columns.new_tensor(range(samples))
        places = (rows.unsqueeze(1) + columns).flatten()
    output = actor.model(ids, attention_mask=attention, position_ids=position_ids, logits_to_keep=columns)
    logits = output["logits"].float()
    if actor.temperature != 1.0:
        logits = logits / actor.temperature
    output["logits"] = logits

    def spread(values: Any) -> Any:
        """Values of the places as the mask lies."""
        whole = values.new_zeros(samples * tokens).index_copy(0, places, values.flatten())
        return whole.view(samples, tokens)[:, predicting]

    if options.get("return_entropy"):
        output.entropy = spread(module.compute_entropy(logits))
    log_probs = spread(module.log_probs_from_logits(logits, labels[:, columns])) * trained.float()
    return (log_probs, output) if options.get("return_output") else log_probs


def _patch_fine_tuning(module: ModuleType) -> None:
    micro_batches = module.iter_grad_accum_global_norm

    @wraps(micro_batches)
    def with_targets(*arguments: Any, **options: Any) -> Iterator[Any]:
        for batch, norms in micro_batches(*arguments, **options):
            _, _, loss_masks = batch
            TARGETS.set(loss_masks.squeeze(1)[:, :-1])
            yield batch, norms
            TARGETS.set(None)  # an evaluation in between computes everything

    module.iter_grad_accum_global_norm = with_targets  # type: ignore[attr-defined]


PATCHES = (
    HostPatch(
        "openrlhf.models.actor",
        "action_log_probs = log_probs[:, -action_mask.shape[1] :] * action_mask.float()",
        _patch_actor,
    ),
    HostPatch(
        "openrlhf.trainer.sft_trainer",
        "for (inputs, attention_masks, loss_masks), loss_batch_info in",
        _patch_fine_tuning,
    ),
)
