"""The tokenizer as the loop needs it: text to ids without additions, ids to text without losses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol


class Tokenizer(Protocol):
    """Text to ids and back; never used to encode again what the policy sampled."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text, with no BOS, EOS or other addition; special tokens in it keep their meaning."""

    def decode(self, ids: Sequence[int]) -> str:
        """Exact text of the ids, special tokens included."""

    def apply_chat_template(self, messages: Sequence[dict[str, str]]) -> str:
        """The messages as text, ending where the assistant's turn begins."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a turn."""

    @property
    def special_texts(self) -> frozenset[str]:
        """Text of every token that was added to the vocabulary: what encoding a text could turn into one id."""


class HFTokenizer:
    """A Hugging Face tokenizer (``hf``, fast or slow) behind :class:`Tokenizer`."""

    def __init__(self, hf: Any) -> None:
        self.hf = hf

    def encode(self, text: str) -> list[int]:
        return list(self.hf(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        return self.hf.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def apply_chat_template(self, messages: Sequence[dict[str, str]]) -> str:
        return self.hf.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        found = self.hf.eos_token_id
        return frozenset(found if isinstance(found, list) else [] if found is None else [found])

    @cached_property
    def special_texts(self) -> frozenset[str]:
        added = getattr(self.hf, "added_tokens_decoder", {}).values()
        return frozenset(self.hf.all_special_tokens) | {token.content for token in added if token.content.strip()}
