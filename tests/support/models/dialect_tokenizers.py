"""The tokenizers of the tiny base models; training one takes about a second."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from data_prep.tiny.dialects import find_dialect
from data_prep.tiny.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer


@cache
def dialect_tokenizer(name: str) -> Qwen2Tokenizer:
    """Of the dialect of this name, trained once in a process; not to be changed."""
    return build_tokenizer(find_dialect(name))
