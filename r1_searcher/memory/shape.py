"""The sizes of a model that memory depends on, from its `config.json`; those of well-known models without a hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foundation.errors import InputError

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class ModelShape:
    """A decoder with grouped-query attention and gated feed-forward layers (Qwen2, Qwen3, Llama, Mistral)."""

    hidden: int
    inner: int
    """Width of the feed-forward layers."""
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_width: int = 0
    """0: `hidden / heads`."""
    tied: bool = False
    """Whether input and output embedding are one matrix."""
    qkv_bias: bool = False
    """As in Qwen2."""
    qk_norm: bool = False
    """As in Qwen3."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """The shape that a `config.json` describes. Raises `InputError` where it is another kind of model."""
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        missing = [name for name in names if not isinstance(config.get(name), int) or config[name] < 1]
        if missing:
            raise InputError(f"the model's configuration has no {missing[0]}, so that its memory cannot be planned")
        if any(config.get(name) for name in _EXPERTS):
            raise InputError("the model is a mixture of experts, whose memory is not planned here")
        hidden, inner, layers, heads, vocabulary = (int(config[name]) for name in names)
        kind = str(config.get("model_type", ""))
        return cls(
            hidden,
            inner,
            layers,
            heads,
            int(config.get("num_key_value_heads") or heads),
            vocabulary,
            head_width=int(config.get("head_dim") or 0),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=bool(config.get("attention_bias", kind.startswith("qwen2"))) or kind.startswith("qwen2"),
            qk_norm=kind.startswith("qwen3"),
        )

    @property
    def query_width(self) -> int:
        """Of all heads together."""
        return self.heads * (self.head_width or self.hidden // self.heads)

    @property
    def kv_width(self) -> int:
        """Of all key heads together; values have as much."""
        return self.kv_heads * (self.head_width or self.hidden // self.heads)

    @cached_property
    def layer_parameters(self) -> int:
        """Of one layer."""
        attention = 2 * self.hidden * (self.query_width + self.kv_width)
        biases = (self.query_width + 2 * self.kv_width) * self.qkv_bias
        norms = 2 * self.hidden + 2 * (self.head_width or self.hidden // self.heads) * self.qk_norm
        return attention + biases + 3 * self.hidden * self.inner + norms

    @property
    def embedding_parameters(self) -> int:
        """Of the input embedding; the output's matrix has as many."""
        return self.vocabulary * self.hidden

    @cached_property
    def parameters(self) -> int:
        """Of the language model."""
        return self.critic_parameters - self.hidden + self.embedding_parameters * (not self.tied)

    @cached_property
    def critic_parameters(self) -> int:
        """Of a critic of this shape: one output per token in place of the vocabulary's."""
        return self.embedding_parameters + self.layers * self.layer_parameters + self.hidden + self.hidden

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers, bf16."""
        return 2 * 2 * self.layers * self.kv_width


def _qwen25(hidden: int, inner: int, layers: int, heads: int, kv: int, *, tied: bool, words: int) -> ModelShape:
    return ModelShape(hidden, inner, layers, heads, kv, words, tied=tied, qkv_bias=True)


def _qwen3(hidden: int, inner: int, layers: int, heads: int, *, tied: bool) -> ModelShape:
    return ModelShape(hidden, inner, layers, heads, 8, 151_936, head_width=128, tied=tied, qk_norm=True)


def _llama3(hidden: int, inner: int, layers: int, heads: int, width: int, *, tied: bool) -> ModelShape:
    return ModelShape(hidden, inner, layers, heads, 8, 128_256, head_width=width, tied=tied)


KNOWN: dict[str, ModelShape] = {
    "Qwen/Qwen2.5-0.5B": _qwen25(896, 4_864, 24, 14, 2, tied=True, words=151_936),
    "Qwen/Qwen2.5-1.5B": _qwen25(1_536, 8_960, 28, 12, 2, tied=True, words=151_936),
    "Qwen/Qwen2.5-3B": _qwen25(2_048, 11_008, 36, 16, 2, tied=True, words=151_936),
    "Qwen/Qwen2.5-7B": _qwen25(3_584, 18_944, 28, 28, 4, tied=False, words=152_064),
    "Qwen/Qwen2.5-14B": _qwen25(5_120, 13_824, 48, 40, 8, tied=False, words=152_064),
    "Qwen/Qwen2.5-32B": _qwen25(5_120, 27_648, 64, 40, 8, tied=False, words=152_064),
    "Qwen/Qwen3-0.6B": _qwen3(1_024, 3_072, 28, 16, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2_048, 6_144, 28, 16, tied=True),
    "Qwen/Qwen3-4B": _qwen3(2_560, 9_728, 36, 32, tied=True),
    "Qwen/Qwen3-4B-Instruct-2507": _qwen3(2_560, 9_728, 36, 32, tied=True),
    "Qwen/Qwen3-8B": _qwen3(4_096, 12_288, 36, 32, tied=False),
    "meta-llama/Llama-3.2-1B": _llama3(2_048, 8_192, 16, 32, 64, tied=True),
    "meta-llama/Llama-3.2-3B": _llama3(3_072, 8_192, 28, 24, 128, tied=True),
    "meta-llama/Llama-3.1-8B": _llama3(4_096, 14_336, 32, 32, 128, tied=False),
}
"""By hub name, from the `config.json` published there; `-Instruct` versions have the same."""


def known_shape(model: str) -> ModelShape | None:
    """The shape of a model folder or of a well-known model; None for any other name.

    Raises:
        InputError: the folder's configuration cannot be read.
    """
    file = Path(model).expanduser() / "config.json"
    if file.is_file():
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {file}: {error}") from error
        return ModelShape.from_config(config)
    return KNOWN.get(model.removesuffix("-Instruct"))


def find_shape(model: str) -> ModelShape:
    """As `known_shape`. Raises `InputError` naming the known models for any other."""
    shape = known_shape(model)
    if shape is None:
        raise InputError(
            f"the sizes of model {model} are not known here; give a folder with its config.json, "
            f"or one of: {', '.join(KNOWN)}"
        )
    return shape
