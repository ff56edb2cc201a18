"""The check of memory: weights, optimizer and cache of this model against what the machine has."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from r1_searcher.doctor.finding import Finding, failed, ok, warning
from r1_searcher.doctor.subject import Subject

GIB = 1024**3
_TRAINED_BYTES = 2 + 2 + 12
"""Per parameter: bf16 weight and gradient; Adam's fp32 master copy and two moments."""
_ENGINE_BYTES = 2
_TIGHT = 0.8
"""Above this share, activations and the CUDA context, which are not counted, will hardly fit."""


@dataclass(frozen=True)
class Machine:
    """The machine that training would run on."""

    kind: str
    """`GPU` or `RAM`."""
    count: int
    free_bytes: int
    """Over all of them."""


def this_machine() -> Machine:
    """The GPUs that torch sees, or the main memory."""
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return Machine("GPU", count, sum(torch.cuda.mem_get_info(number)[0] for number in range(count)))
    import psutil

    return Machine("RAM", 1, psutil.virtual_memory().available)


def check_memory(subject: Subject, machine: Machine) -> Finding:
    """At least what is counted must fit: one trainer, one engine, and the cache of one whole episode.

    ZeRO shards the trainer's states over the GPUs, so the sum over all of them is compared; activations, a
    reference model (with a KL term) and a critic come on top.
    """
    parameters = _parameters(subject)
    if not parameters:
        return warning("cannot tell the size of this model", "look at its weights; training needs 18 bytes a parameter")
    cache = cache_bytes_per_token(subject.config) * subject.recipe.limits.max_length
    need = parameters * (_TRAINED_BYTES + _ENGINE_BYTES) + cache
    where = f"{machine.count} x GPU" if machine.kind == "GPU" else machine.kind
    seen = (
        f"{parameters / 1e6:,.1f} M parameters need at least {need / GIB:.2f} GiB (an episode's cache: "
        f"{cache / GIB:.3f}); {machine.free_bytes / GIB:.1f} GiB of {where} are free"
    )
    if need > machine.free_bytes:
        return failed(seen, "take a smaller model, more GPUs, or --ds.zero_stage 3 with --ds.adam_offload")
    if need > _TIGHT * machine.free_bytes:
        return warning(seen, "activations come on top: lower the micro batch, or offload (--ds.adam_offload)")
    return ok(seen)


def cache_bytes_per_token(config: Mapping[str, Any]) -> int:
    """Keys and values of one token in all layers, bf16."""
    heads = config.get("num_attention_heads") or 1
    width = config.get("head_dim") or (config.get("hidden_size") or 0) // heads
    return 2 * 2 * (config.get("num_hidden_layers") or 0) * (config.get("num_key_value_heads") or heads) * width


def _parameters(subject: Subject) -> int:
    """Counted in the folder's weights, or estimated from the configuration of a model that is not here."""
    files = sorted(Path(subject.model).expanduser().glob("*.safetensors"))
    return sum(map(_parameters_in, files)) if files else estimated_parameters(subject.config)


def _parameters_in(file: Path) -> int:
    """Numbers in a safetensors file, from its header: its length as 8 bytes, then JSON."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def estimated_parameters(config: Mapping[str, Any]) -> int:
    """Parameters of a decoder with gated feed-forward layers (Qwen, Llama, Mistral), without norms and biases."""
    hidden, layers, inner = (config.get(key) or 0 for key in ("hidden_size", "num_hidden_layers", "intermediate_size"))
    heads = config.get("num_attention_heads") or 1
    width = config.get("head_dim") or hidden // heads
    keys = config.get("num_key_value_heads") or heads
    attention = 2 * hidden * heads * width + 2 * hidden * keys * width
    embeddings = (config.get("vocab_size") or 0) * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return int(embeddings + layers * (attention + 3 * hidden * inner))
