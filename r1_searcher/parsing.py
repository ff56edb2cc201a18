"""One turn of the policy to what it means: a search, an answer, or neither."""

from __future__ import annotations

from dataclasses import dataclass

from r1_searcher.policy import Finish
from r1_searcher.protocol import Protocol, Tags

MAX_QUERY_CHARS = 2000
"""A longer query is no query; search services refuse such."""


@dataclass(frozen=True)
class Search:
    """The policy asks for documents."""

    query: str


@dataclass(frozen=True)
class Answer:
    """The policy has ended with an answer (text between the last complete pair of answer tags)."""

    text: str


@dataclass(frozen=True)
class Invalid:
    """The policy stopped at the query tag without a usable query."""

    why: str


@dataclass(frozen=True)
class Nothing:
    """The turn ended with neither query nor answer."""


@dataclass(frozen=True)
class Truncated:
    """The token budget cut the turn; ``answer`` is what it had completed by then."""

    answer: str | None


Action = Search | Answer | Invalid | Nothing | Truncated


def parse_action(protocol: Protocol, text: str, finish: Finish) -> Action:
    """What a turn means.

    A turn is a search only where the engine stopped at the query's closing tag, as in R1-Searcher's rollout; tags
    that stand in a turn which ended otherwise are text.  What the last token wrote beyond the closing tag stays
    part of the action and is not part of the query.
    """
    if finish is Finish.STOP:
        return _parse_query(protocol, text)
    answer = last_between(text, protocol.answer)
    if finish is Finish.LENGTH:
        return Truncated(answer)
    return Nothing() if answer is None else Answer(answer)


def _parse_query(protocol: Protocol, text: str) -> Action:
    end = text.find(protocol.query.close)
    start = text.rfind(protocol.query.open, 0, max(end, 0))
    if end < 0 or start < 0:
        return Invalid(f"{protocol.query.close} without {protocol.query.open} before it")
    query = text[start + len(protocol.query.open) : end]
    query = " ".join(query.translate({ord(char): None for char in protocol.query_strip}).split())
    if len(query) > MAX_QUERY_CHARS:
        return Invalid(f"query of {len(query)} characters")
    return Search(query) if query else Invalid("empty query")


def last_between(text: str, tags: Tags) -> str | None:
    """Stripped text of the last complete pair of tags, or None."""
    end = text.rfind(tags.close)
    start = text.rfind(tags.open, 0, max(end, 0))
    return None if end < 0 or start < 0 else text[start + len(tags.open) : end].strip()
