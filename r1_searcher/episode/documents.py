"""Turns passages into text: sanitised, wrapped as the protocol says, cut to a token budget by whole passages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import Formatter

from r1_searcher.episode.protocol import QUERY_FIELD, Protocol, Tags, Tool
from retriever.passage import Passage

# Control characters, line ends, and halves of surrogate pairs (legal in JSON, refused by tokenizers).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]+")


class PassageSanitizer:
    """Makes a passage harmless as data: it can neither close its block nor forge a tag, a role or an EOS.

    A passage stands on one line (control characters and line ends become a space), and every forbidden string in it
    is broken by a space after its first character. A passage without any of them keeps its bytes, so the block
    is what the published system inserts.
    """

    def __init__(self, forbidden: Iterable[str]) -> None:
        # Only strings that start with two visible characters: a space after the first then always breaks them.
        strings = sorted({text for text in forbidden if len(text[:2].replace(" ", "")) == 2}, key=len, reverse=True)
        self._forbidden = re.compile("|".join(map(re.escape, strings))) if strings else None

    def __call__(self, text: str) -> str:
        """The text as it may stand in a context."""
        return self.without_tags(_UNPRINTABLE.sub(" ", text))

    def without_tags(self, text: str) -> str:
        """The text with every forbidden string broken, its lines as they were."""
        if self._forbidden is None:
            return text
        while self._forbidden.search(text):  # breaking one tag can join its neighbours into another
            text = self._forbidden.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text


@dataclass(frozen=True)
class Found:
    """The passages of one request."""

    request: str
    """The query, or the address of a page."""
    passages: tuple[Passage, ...]
    tool: Tool | None = None
    """The tool that was called, in protocols with tools."""


@dataclass(frozen=True)
class DocumentBlock:
    """The environment's turn: its text, its ids, and the passages that it shows."""

    text: str
    ids: tuple[int, ...]
    results: tuple[Found, ...]
    """What was asked, with those passages only that stand in the text."""

    @property
    def shown(self) -> tuple[Passage, ...]:
        """The passages in the text, in order."""
        return tuple(passage for found in self.results for passage in found.passages)


def passage_text(protocol: Protocol, block: str) -> str:
    """What the passages of a block say: without frame, ranks and keys, and without the requests that it repeats.

    A reward that looks for a gold answer must not find it in the query that the policy wrote.
    """
    if protocol.tools:
        fields = [field for tool in protocol.tools for field in tool.fields.items()]
        keys = {re.escape(key) for key, name in fields if name not in ("rank", "id")}
        return "\n".join(re.findall(rf'"(?:{"|".join(keys)})": "((?:[^"\\]|\\.)*)"', block))
    passages = without_frame(protocol.frame, block)
    if passages == protocol.no_documents:
        return ""
    # A passage stands on lines of its own; what stands before its first field is the protocol's.
    before_field = re.split("{(?!rank)", protocol.passage_format, maxsplit=1)[0]
    heading = "[0-9]+".join(map(re.escape, before_field.split("{rank}")))
    return re.sub(f"^{heading}", "", passages, flags=re.MULTILINE)


def without_frame(frame: Tags, block: str) -> str:
    """What stands inside a frame: a protocol's own, or the one of `documents_frame` with the chat template's words."""
    start = block.find(frame.open)
    start = start + len(frame.open) if start >= 0 else 0
    end = block.rfind(frame.close.partition(QUERY_FIELD)[0])
    return block[start : end if end >= start else None]


@dataclass(frozen=True)
class DocumentWriter:
    """Passages to the environment's turn."""

    protocol: Protocol
    frame: Tags
    """What stands before and after the passages: `r1_searcher.episode.prompting.documents_frame`."""
    encode: Callable[[str], list[int]]
    sanitize: Callable[[str], str]

    def render(self, results: Sequence[Found]) -> str:
        """The whole block of these results, frame included."""
        write = self._json if self.protocol.tools else self._lines
        close = self.frame.close
        if QUERY_FIELD in close:
            close = close.replace(QUERY_FIELD, self.sanitize("; ".join(found.request for found in results)))
        return f"{self.frame.open}{write(results)}{close}"

    def _lines(self, results: Sequence[Found]) -> str:
        passages = [passage for found in results for passage in found.passages]
        lines = [
            self.protocol.passage_format.format(**self._fields(passage, rank))
            for rank, passage in enumerate(passages, start=1)
        ]
        return self.protocol.passage_separator.join(lines) or self.protocol.no_documents

    def _json(self, results: Sequence[Found]) -> str:
        rows = []
        for found in results:
            if found.tool is None:
                raise ValueError(f"results of a protocol with tools must name theirs; {found.request!r} has none")
            fields = [self._fields(passage, rank) for rank, passage in enumerate(found.passages, start=1)]
            shown = [{key: values[name] for key, name in found.tool.fields.items()} for values in fields]
            rows.append({found.tool.asked: self.sanitize(found.request), found.tool.found: shown})
        return json.dumps(rows, ensure_ascii=False)

    def _fields(self, passage: Passage, rank: int) -> dict[str, str | int]:
        return {"rank": rank, **{name: self.sanitize(getattr(passage, name)) for name in self._names}}

    @cached_property
    def _names(self) -> frozenset[str]:
        """The fields of a passage that the protocol shows."""
        formatted = {name for _, name, _, _ in Formatter().parse(self.protocol.passage_format) if name}
        return frozenset(formatted.union(*(tool.fields.values() for tool in self.protocol.tools))) - {"rank"}

    def fit(self, results: Sequence[Found], budget: int) -> DocumentBlock | None:
        """The block of as many of the best passages as fit in `budget` tokens; None where not even the frame fits.

        Whole passages are left out, the frame is never cut. A passage that is too long by itself does not push the
        shorter ones after it out. Of several results the best passages of each come first.
        """
        # Spares the event loop from encoding megabytes that cannot fit.
        longest = max(budget, 0) * _MAX_CHARS_PER_TOKEN
        results = [_without_longer(found, longest) for found in results]
        block = self._encoded(results)
        if len(block.ids) <= budget:
            return block
        kept = [replace(found, passages=()) for found in results]
        best = self._encoded(kept)
        if len(best.ids) > budget:
            return None
        for place, passage in _by_rank(results):
            grown = [replace(f, passages=(*f.passages, passage)) if i == place else f for i, f in enumerate(kept)]
            block = self._encoded(grown)
            if len(block.ids) <= budget:
                kept, best = grown, block
        return best

    def _encoded(self, results: Sequence[Found]) -> DocumentBlock:
        text = self.render(results)
        return DocumentBlock(text, tuple(self.encode(text)), tuple(results))


# The longest pieces of real vocabularies are runs of 128 equal characters.
_MAX_CHARS_PER_TOKEN = 256


def _without_longer(found: Found, characters: int) -> Found:
    kept = tuple(passage for passage in found.passages if len(passage.text) + len(passage.title) <= characters)
    return found if len(kept) == len(found.passages) else replace(found, passages=kept)


def _by_rank(results: Sequence[Found]) -> Iterator[tuple[int, Passage]]:
    """Index of the result, and passage: the best of every result, then the second best of each, and so on."""
    for rank in range(max((len(found.passages) for found in results), default=0)):
        for place, found in enumerate(results):
            if rank < len(found.passages):
                yield place, found.passages[rank]
