"""What lies on a GPU in each phase of a step.

The arithmetic is that of the installed OpenRLHF 0.11, DeepSpeed 0.19 and vLLM 0.29, read in their sources: ZeRO-2 keeps
whole weights on every rank, `offload_deepspeed_states` leaves them on the GPU, a reference model is sharded only by
ZeRO-3, logits of a whole micro-batch become fp32 (`openrlhf/models/actor.py`). Contexts, buffers and pools of graphs
are round figures that no run here has confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from r1_searcher.memory.layout import Group, Layout, Role
from r1_searcher.memory.shape import ModelShape

GIB = 1024**3

ADAM_BYTES = 12
"""Per parameter: fp32 copy of the weight and two moments."""
COPIES = 2 + 4
"""Per parameter, of its bf16 gradient while the optimizer steps: flat, and then in fp32."""
BUCKET = 500_000_000
"""Numbers in one of DeepSpeed's reduction buckets (`zero/config.py`, reduce_bucket_size)."""
LIVE = 1_000_000_000
"""Numbers that ZeRO-3 keeps gathered at most (stage3_max_live_parameters)."""
CONTEXT_BYTES = GIB // 2
"""CUDA context of one process."""
NCCL_BYTES = GIB
"""Buffers of the collectives, and what the allocators of a GPU's processes keep unused."""
GRAPH_BYTES = 2 * GIB
"""CUDA graphs of an engine without `--vllm.enforce_eager`, kept while it sleeps."""
ENGINE_WORK_BYTES = GIB
"""Activations and sampler of an engine, inside its share."""

LOGITS_FORWARD = 2 + 4
"""Bytes per logit: bf16, and the fp32 copy that is made of it."""
LOGITS_UPDATE = 4 + 4 + 2
"""The fp32 logits, which live until the step ends, their gradient, and that gradient in bf16."""
LOGITS_ENTROPY = 4 + 4
"""With an entropy coefficient: the probabilities kept for its gradient, and that gradient."""


class StepPhase(str, Enum):
    """Of a step, in their order."""

    GENERATION = "generation"
    LOG_PROBS = "log-probs"
    CRITIC_UPDATE = "critic update"
    UPDATE = "update"
    SAVE = "save"


@dataclass(frozen=True)
class PhaseMemory:
    """Bytes on one GPU in one phase."""

    phase: StepPhase
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class GpuPlan:
    """The phases of a group of GPUs."""

    group: Group
    phases: tuple[PhaseMemory, ...]
    cache_tokens: float = field(default=0.0)
    """Tokens whose keys and values fit into an engine's share; 0 for GPUs without one."""

    @property
    def peak(self) -> PhaseMemory:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)


@dataclass(frozen=True)
class Model:
    """A run's models on its GPUs: what each part of a phase weighs."""

    shape: ModelShape
    critic: ModelShape
    layout: Layout
    card_bytes: float
    """Memory of one GPU."""

    def plan(self) -> tuple[GpuPlan, ...]:
        """Every group of GPUs, phase by phase."""
        return tuple(self._group(group) for group in self.layout.groups)

    def _group(self, group: Group) -> GpuPlan:
        phases = tuple(PhaseMemory(phase, self._parts(group, phase)) for phase in self._phases(group))
        return GpuPlan(group, phases, self._cache_bytes / self._cache_per_token if Role.ENGINE in group.roles else 0.0)

    def _phases(self, group: Group) -> list[StepPhase]:
        if group.roles == {Role.ENGINE}:
            return [StepPhase.GENERATION]
        absent = {StepPhase.GENERATION} if Role.ENGINE not in group.roles else set()
        if Role.CRITIC not in group.roles:
            absent.add(StepPhase.CRITIC_UPDATE)
        if Role.ACTOR not in group.roles:
            absent.add(StepPhase.UPDATE)
        if not group.roles & {Role.ACTOR, Role.CRITIC}:
            absent.add(StepPhase.SAVE)
        return [phase for phase in StepPhase if phase not in absent]

    def _parts(self, group: Group, phase: StepPhase) -> dict[str, float]:
        """By the name that the table shows; what is 0 is left out."""
        roles, n = group.roles, group.gpus
        trained = {Role.ACTOR: self.shape.parameters, Role.CRITIC: self.critic.critic_parameters}
        working = {StepPhase.UPDATE: {Role.ACTOR}, StepPhase.CRITIC_UPDATE: {Role.CRITIC}}.get(phase, set())
        if working and not self.layout.flags["ds.enable_sleep"]:
            working = {Role.ACTOR, Role.CRITIC}  # both train at the same time, and their states stay
        states = roles & (working if self.layout.flags["ds.enable_sleep"] else set(trained))
        backward: dict[str, float] = {
            "activations": self._activations(roles, working, phase),
            "logits": self._logits(roles, working, phase),
        }
        copies: dict[str, float] = {"gradient copies": sum(self._copies(trained[role], n) for role in roles & working)}
        parts = {
            "weights": self._weights(trained[Role.ACTOR], n) if Role.ACTOR in roles else 0.0,
            "reference": self._reference(n) if Role.REFERENCE in roles else 0.0,
            "average": self._average(n) if Role.ACTOR in roles else 0.0,
            "critic": self._weights(trained[Role.CRITIC], n) if Role.CRITIC in roles else 0.0,
            "optimizer": sum(self._optimizer(trained[role], n) for role in states),
            "gradients": sum(self._gradients(trained[role], n) for role in states),
            "buckets": sum(self._buckets(trained[role]) for role in roles & working),
            "gathered": self._gathered(phase),
            **(copies if sum(copies.values()) > sum(backward.values()) else backward),  # never at the same time
            "engine": self._engine(phase) if Role.ENGINE in roles else 0.0,
            "contexts": len(roles) * CONTEXT_BYTES + NCCL_BYTES,
        }
        return {name: size for name, size in parts.items() if size}

    def _weights(self, parameters: int, n: int) -> float:
        if self.layout.zero_stage < 3:
            return 2 * parameters / int(self.layout.flags["ds.tensor_parallel_size"])
        secondary = int(self.layout.flags["ds.zpg"])  # ZeRO++ keeps a second copy within so many GPUs
        return 2 * parameters / n + (2 * parameters / secondary if secondary > 1 else 0)

    def _reference(self, n: int) -> float:
        """DeepSpeed offloads parameters in stage 3 only; in others `--ref.offload` does nothing."""
        if self.layout.flags["ref.offload"] and self.layout.zero_stage == 3:
            return 0.0
        return self._weights(self.shape.parameters, n)

    def _average(self, n: int) -> float:
        """The moving average of the weights; in RAM with ZeRO-3."""
        if not self.layout.flags["train.enable_ema"] or self.layout.zero_stage == 3:
            return 0.0
        return self._weights(self.shape.parameters, n)

    def _optimizer(self, parameters: int, n: int) -> float:
        if self.layout.flags["ds.adam_offload"]:
            return 0.0
        return ADAM_BYTES * parameters / (n if self.layout.zero_stage else 1)

    def _gradients(self, parameters: int, n: int) -> float:
        each = 4 if self.layout.flags["ds.grad_accum_dtype"] in ("fp32", "float", "float32") else 2
        return each * parameters / (n if self.layout.zero_stage > 1 else 1)

    def _copies(self, parameters: int, n: int) -> float:
        """ZeRO-3 steps through sub-groups of so many numbers."""
        shard = parameters / (n if self.layout.zero_stage else 1)
        return COPIES * min(shard, LIVE) if self.layout.zero_stage == 3 else COPIES * shard

    def _buckets(self, parameters: int) -> float:
        count = 2 if self.layout.flags["ds.overlap_comm"] else 1
        return 2 * count * min(BUCKET, parameters)

    def _gathered(self, phase: StepPhase) -> float:
        """Whole layers that ZeRO-3 puts together where they are used."""
        if self.layout.zero_stage < 3 or phase is StepPhase.GENERATION:
            return 0.0
        if phase is StepPhase.SAVE:
            return 2 * max(self.shape.embedding_parameters, self.shape.layer_parameters)
        return 2 * min(LIVE, self.shape.parameters)

    def _activations(self, roles: frozenset[Role], working: set[Role], phase: StepPhase) -> float:
        if phase is StepPhase.LOG_PROBS:
            return self.layout.tokens_forward * layer_bytes(self.shape) / 2
        tokens = self.layout.tokens_trained
        shapes = {Role.ACTOR: self.shape, Role.CRITIC: self.critic}
        return sum(tokens * self._kept_per_token(shapes[role]) for role in roles & working)

    def _kept_per_token(self, shape: ModelShape) -> float:
        """Bytes of one token from forward to backward, and the gradients of the layer that backward is in."""
        backward = 6 * shape.inner + 4 * shape.hidden
        if self.layout.flags["actor.gradient_checkpointing_enable"]:
            return 2 * shape.layers * shape.hidden + layer_bytes(shape) + backward
        return shape.layers * layer_bytes(shape) + backward

    def _logits(self, roles: frozenset[Role], working: set[Role], phase: StepPhase) -> float:
        if phase is StepPhase.LOG_PROBS and roles & {Role.ACTOR, Role.REFERENCE}:
            return self.layout.tokens_forward * self.shape.vocabulary * LOGITS_FORWARD
        if Role.ACTOR in roles & working:
            return logits_bytes(self.layout.tokens_trained, self.shape.vocabulary, entropy=self._has_entropy)
        return 0.0

    @property
    def _has_entropy(self) -> bool:
        """A coefficient of 0 logs the entropy, and the host's graph keeps what a gradient of it would need."""
        return self.layout.flags["actor.entropy_coef"] is not None

    def _engine(self, phase: StepPhase) -> float:
        graphs = 0 if self.layout.flags["vllm.enforce_eager"] else GRAPH_BYTES
        share = float(self.layout.flags["vllm.gpu_memory_utilization"]) * self.card_bytes
        if phase is StepPhase.GENERATION or not self.layout.engines_sleep:
            return share + graphs
        if phase is StepPhase.SAVE:  # its weights have been woken up to receive the new ones
            return graphs + 2 * self.shape.parameters / self.layout.tensor_parallel
        return graphs

    @property
    def _cache_bytes(self) -> float:
        share = float(self.layout.flags["vllm.gpu_memory_utilization"]) * self.card_bytes
        return max(0.0, share - 2 * self.shape.parameters / self.layout.tensor_parallel - ENGINE_WORK_BYTES)

    @property
    def _cache_per_token(self) -> float:
        return self.shape.cache_bytes_per_token / min(self.layout.tensor_parallel, self.shape.kv_heads)


def layer_bytes(shape: ModelShape) -> int:
    """Bytes per token that one layer keeps for its backward pass, in bf16 with flash attention.

    Each norm keeps its input in fp32, that scaled, and its output; attention its queries, keys and values before and
    after rotation and its result; the gated layer its two halves, the activation and the product.
    """
    norms = 2 * (4 + 2 + 2) * shape.hidden
    attention = 2 * (3 * shape.query_width + 3 * shape.kv_width)
    return norms + attention + 4 * 2 * shape.inner


def logits_bytes(tokens: int, vocabulary: int, *, entropy: bool) -> int:
    """Logits of an update, with all that lives beside them at the worst moment of the backward pass."""
    return tokens * vocabulary * (LOGITS_UPDATE + (LOGITS_ENTROPY if entropy else 0))
