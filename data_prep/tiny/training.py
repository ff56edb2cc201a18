"""Supervised training of a tiny base model: network, optimisers, steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from tqdm import tqdm

from data_prep.tiny.demos import Encoded
from data_prep.tiny.tokenizer import MAX_POSITIONS

if TYPE_CHECKING:
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

logger = logging.getLogger(__name__)

LAYERS, HIDDEN, HEADS, MLP = 3, 128, 4, 256
"""Head size 32: the CPU attention of vLLM takes 32 or more."""
VOCABULARY_MULTIPLE = 64
PREVIOUS_TOKEN_STRENGTH = 6.0
BATCH = 32


@dataclass(frozen=True)
class LearningRate:
    """Warm-up, constant, then a linear fall to zero."""

    steps: int
    adamw_lr: float
    muon_lr: float | None
    """Learning rate of the weight matrices; None trains them with AdamW as everything else."""
    warmup: int = 10
    decay_share: float = 0.3

    def factor(self, step: int) -> float:
        """The factor of the learning rates in this step (from 0)."""
        decay = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return min(1.0, (step + 1) / self.warmup, decay)


SKILL = LearningRate(steps=220, adamw_lr=3e-3, muon_lr=0.02)
SKILL_AGAIN = LearningRate(steps=110, adamw_lr=2e-3, muon_lr=0.02)
WEAK = LearningRate(steps=140, adamw_lr=1e-3, muon_lr=None)


def new_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2ForCausalLM:
    """An untrained Qwen2 whose first heads look one and two tokens back, so that copying is learnt sooner."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=math.ceil(len(tokenizer) / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE,
            hidden_size=HIDDEN,
            intermediate_size=MLP,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for layer, head, distance in ((0, 0, 1), (0, 1, 2), (1, 0, 1)):
        _look_back(model.model.layers[layer].self_attn, head, distance)
    return model


def _look_back(attention: Any, head: int, distance: int) -> None:
    """Set the biases of a head so that it attends to the token `distance` before.

    With rotary positions, key bias k and query bias R(-distance) k score highest at that distance.
    """
    size = HIDDEN // HEADS
    angles = -distance * 10_000.0 ** (-torch.arange(0, size, 2) / size)
    start, middle, end = head * size, head * size + size // 2, (head + 1) * size
    with torch.no_grad():
        attention.k_proj.bias[start:middle] = PREVIOUS_TOKEN_STRENGTH
        attention.q_proj.bias[start:middle] = PREVIOUS_TOKEN_STRENGTH * angles.cos()
        attention.q_proj.bias[middle:end] = PREVIOUS_TOKEN_STRENGTH * angles.sin()


def train(model: Qwen2ForCausalLM, demos: Sequence[Encoded], schedule: LearningRate, pad_id: int, seed: int) -> float:
    """Train in place on `schedule.steps` batches of demonstrations; the mean loss of the last tenth."""
    optimisers = _optimisers(model, schedule)
    base_rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    batches = _batches(demos, seed)
    losses: list[float] = []
    model.train()
    for step in (progress := tqdm(range(schedule.steps), unit="step", mininterval=2.0)):
        for optimiser, rates in zip(optimisers, base_rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.factor(step)
        loss = _loss(model, next(batches), pad_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        losses.append(float(loss.detach()))
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _optimisers(model: Qwen2ForCausalLM, schedule: LearningRate) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    betas = (0.9, 0.98)
    if schedule.muon_lr is None:
        return [torch.optim.AdamW([*matrices, *others], schedule.adamw_lr, betas, weight_decay=0.0)]
    return [
        torch.optim.Muon(matrices, schedule.muon_lr, weight_decay=0.0),
        torch.optim.AdamW(others, schedule.adamw_lr, betas, weight_decay=0.0),
    ]


def _batches(demos: Sequence[Encoded], seed: int) -> Iterator[list[Encoded]]:
    """Batches without end; every demonstration once before any comes again."""
    random = Random(seed)
    order: list[Encoded] = []
    while True:
        if len(order) < BATCH:
            order = random.sample(demos, len(demos))
        yield [order.pop() for _ in range(BATCH)]


def _loss(model: Qwen2ForCausalLM, batch: Sequence[Encoded], pad_id: int) -> torch.Tensor:
    """Weighted mean over the action tokens of the batch."""
    width = max(len(demo.ids) for demo in batch)
    ids = torch.tensor([[*demo.ids, *[pad_id] * (width - len(demo.ids))] for demo in batch])  # [batch, width]
    weights = torch.tensor([[*demo.weights, *[0.0] * (width - len(demo.ids))] for demo in batch])[:, 1:]
    # Padding is on the right and causal attention never sees it: no mask is needed.
    trained = weights > 0
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][trained]  # [trained tokens, hidden]
    losses = functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][trained], reduction="none")
    return (losses * weights[trained]).sum() / weights.sum()
