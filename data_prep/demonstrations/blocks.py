"""A block of documents back to passages: of our own protocols, and as R1-Searcher's releases print them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any

from r1_searcher.episode.documents import without_frame
from r1_searcher.episode.protocol import Protocol
from retriever.passage import Passage

_TO_THE_END, _SHORT = r"[^\n]*", r"[^\n]*?"
_RANK = re.compile(r"\(?[0-9]+\)?[.:]? ?")
_RELEASED = (
    re.compile(r"Title: (?P<title>.*?) Text: +(?P<text>.*)"),  # HotpotQA's passages
    re.compile(r"(?P<title>.{1,200}?)   (?P<text>.*)"),  # KILT's, as its 2Wiki evaluation shows them
)
"""How a passage is printed in R1-Searcher's released transcripts."""


def passages_of(protocol: Protocol, block: str) -> tuple[Passage, ...]:
    """The passages that a block shows, in order; a line that cannot be read as one is left out.

    Their ids are empty: a text does not tell them.
    """
    if protocol.tools:
        return tuple(_of_json(protocol, block))
    shown = without_frame(protocol.frame, block)
    if shown.strip() == protocol.no_documents.strip():
        return ()
    pattern = _pattern(protocol.passage_format)
    if "\n" in protocol.passage_format.strip("\n"):
        return tuple(_passage(match.groupdict()) for match in pattern.finditer(shown))
    lines = (pattern.fullmatch(line) or _released(line) for line in shown.splitlines())
    return tuple(_passage(match.groupdict()) for match in lines if match)


@lru_cache
def _pattern(passage_format: str) -> re.Pattern[str]:
    """A passage as the protocol writes it; the last field reaches to the end of its line, the others stop early."""
    parts = list(Formatter().parse(passage_format.rstrip("\n")))
    fields = [name for _, name, _, _ in parts if name and name != "rank"]
    pattern = "^"
    for literal, name, _, _ in parts:
        pattern += re.escape(literal)
        if name == "rank":
            pattern += "[0-9]+"
        elif name:
            pattern += f"(?P<{name}>{_TO_THE_END if name == fields[-1] else _SHORT})"
    return re.compile(f"{pattern}$", re.MULTILINE)


def _passage(fields: Mapping[str, str]) -> Passage:
    text = fields.get("text") or fields.get("titled_text") or ""
    return Passage("", fields.get("title") or "", text.strip())


def _released(line: str) -> re.Match[str] | None:
    text = _RANK.sub("", line, count=1)
    if len(text) > 1 and text[0] == text[-1] == '"':  # a cell of a table, quoted as CSV has it
        text = text[1:-1].replace('""', '"')
    return next(filter(None, (form.fullmatch(text) for form in _RELEASED)), None)


def _of_json(protocol: Protocol, block: str) -> Iterator[Passage]:
    """Passages of a tool's JSON; those of all its requests, one after the other."""
    start = block.find("[")
    try:
        results: list[dict[str, Any]] = json.JSONDecoder().raw_decode(block, start)[0] if start >= 0 else []
    except ValueError:
        return
    if not all(isinstance(result, dict) for result in results):
        return
    for tool in protocol.tools:
        names = {field: key for key, field in tool.fields.items()}
        for result in results:
            for shown in result.get(tool.found, ()):
                yield _passage({field: str(shown.get(key, "")) for field, key in names.items()})
