"""Passages to text: sanitised, wrapped in the protocol's tags, cut to a token budget by leaving out whole passages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from r1_searcher.protocol import Protocol
from retriever.passage import Passage

# Control characters, line ends, and halves of surrogate pairs (legal in JSON, refused by tokenizers).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]+")


class PassageSanitizer:
    """Makes a passage harmless as data: it can neither close its block nor forge a tag, a role or an EOS.

    A passage stands on one line (control characters and line ends become a space), and every forbidden string in it
    is broken by a space after its first character.  A passage without any of them keeps its bytes, so the block
    is what the published system inserts.
    """

    def __init__(self, forbidden: Iterable[str]) -> None:
        # Only strings that start with two visible characters: a space after the first then always breaks them.
        strings = sorted({text for text in forbidden if len(text[:2].replace(" ", "")) == 2}, key=len, reverse=True)
        self._forbidden = re.compile("|".join(map(re.escape, strings))) if strings else None

    def __call__(self, text: str) -> str:
        """The text as it may stand in a context."""
        text = _UNPRINTABLE.sub(" ", text)
        if self._forbidden is None:
            return text
        while self._forbidden.search(text):  # breaking one tag can join its neighbours into another
            text = self._forbidden.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text


@dataclass(frozen=True)
class DocumentBlock:
    """The environment's turn: its text, its ids, and the passages that it shows."""

    text: str
    ids: tuple[int, ...]
    shown: tuple[Passage, ...]


def render_documents(protocol: Protocol, passages: Sequence[Passage], sanitize: Callable[[str], str]) -> str:
    """The whole block of these passages, tags included."""
    lines = [
        protocol.passage_format.format(rank=rank, title=sanitize(passage.title), text=sanitize(passage.text))
        for rank, passage in enumerate(passages, start=1)
    ]
    return f"{protocol.before_documents}{''.join(lines) or protocol.no_documents}{protocol.after_documents}"


def fit_documents(
    protocol: Protocol,
    passages: Sequence[Passage],
    budget: int,
    encode: Callable[[str], list[int]],
    sanitize: Callable[[str], str],
) -> DocumentBlock | None:
    """The block of as many of the best passages as fit in ``budget`` tokens; None where not even the tags fit.

    Whole passages are left out, the tags are never cut.  A passage that is too long by itself does not push the
    shorter ones behind it out.
    """
    passages = [p for p in passages if len(p.text) + len(p.title) <= max(budget, 0) * _MAX_CHARS_PER_TOKEN]
    block = _encoded(protocol, passages, encode, sanitize)
    if len(block.ids) <= budget:
        return block
    kept: list[Passage] = []
    best = _encoded(protocol, kept, encode, sanitize)
    if len(best.ids) > budget:
        return None
    for passage in passages:
        block = _encoded(protocol, [*kept, passage], encode, sanitize)
        if len(block.ids) <= budget:
            kept, best = [*kept, passage], block
    return best


# Spares the event loop from encoding megabytes that cannot fit; the longest pieces of real vocabularies are runs of
# 128 equal characters.
_MAX_CHARS_PER_TOKEN = 256


def _encoded(
    protocol: Protocol,
    passages: Sequence[Passage],
    encode: Callable[[str], list[int]],
    sanitize: Callable[[str], str],
) -> DocumentBlock:
    text = render_documents(protocol, passages, sanitize)
    return DocumentBlock(text, tuple(encode(text)), tuple(passages))
