"""Reads one turn of the policy: a search, an answer, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.files import parse_json
from r1_searcher.episode.policy import Finish
from r1_searcher.episode.protocol import Protocol, Tags, Tool

MAX_QUERY_CHARS = 2000
"""A longer query is no query; search services refuse such."""


@dataclass(frozen=True)
class Search:
    """The policy asks for documents."""

    query: str
    """The query; of a call with several, the first."""
    more: tuple[str, ...] = ()
    """The further queries of the same call."""
    tool: Tool | None = None
    """The tool that is called, in protocols with tools."""

    @property
    def queries(self) -> tuple[str, ...]:
        """Everything that is asked in this one action."""
        return (self.query, *self.more)


@dataclass(frozen=True)
class Answer:
    """The policy has ended with an answer: text between its tags, or the whole turn where the protocol has none."""

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
    """The token budget cut the turn; `answer` is what it had completed by then."""

    answer: str | None


Action = Search | Answer | Invalid | Nothing | Truncated


def parse_action(protocol: Protocol, text: str, finish: Finish) -> Action:
    """What a turn means.

    Where the engine stops at the query's closing tag, a turn is a search only if it was stopped there, as in
    R1-Searcher's rollout; tags that stand in a turn which ended otherwise are text. What the last token wrote beyond
    the closing tag stays part of the action and is not part of the query.
    """
    answer = _answer(protocol, text)
    if finish is Finish.STOP:
        # The first closing tag ended the turn: a turn that holds the query's was stopped by it.
        if protocol.query.close in text or not protocol.stops_at_answer:
            return _parse_query(protocol, text)
        return Answer(answer) if answer is not None else Invalid(f"{protocol.answer.close} without its opening tag")
    if finish is Finish.LENGTH:
        return Truncated(answer)
    if not protocol.stops_at_query and protocol.query.close in text and answer is None:
        return _parse_query(protocol, text)
    return Nothing() if answer is None else Answer(answer)


def _answer(protocol: Protocol, text: str) -> str | None:
    """The answer that a turn gives, if it gives one; of a boxed one without a box, nothing."""
    if protocol.plain_answer:
        return text.strip() or None
    find = first_between if protocol.first_answer else last_between
    answer = find(text, protocol.answer)
    return last_boxed(answer) if protocol.boxed and answer is not None else answer


def _parse_query(protocol: Protocol, text: str) -> Action:
    # With EOS as the only stop a turn may hold several calls: the last one counts, as it does for answers.
    end = text.find(protocol.query.close) if protocol.stops_at_query else text.rfind(protocol.query.close)
    start = text.rfind(protocol.query.open, 0, max(end, 0))
    if end < 0 or start < 0:
        return Invalid(f"{protocol.query.close} without {protocol.query.open} before it")
    written = text[start + len(protocol.query.open) : end]
    if not protocol.tools:
        return _search([written], protocol)
    if protocol.think.close not in text[:start]:
        return Invalid(f"a tool call without {protocol.think.close} before it")
    return _parse_call(protocol, written)


def _parse_call(protocol: Protocol, written: str) -> Action:
    """`{"name": …, "arguments": {…: [strings]}}` of one of the protocol's tools."""
    try:
        call = parse_json(written)
        name, arguments = call["name"], call["arguments"]
        tool = next(tool for tool in protocol.tools if tool.name == name)
        items = arguments[tool.argument]
    except ValueError as error:
        return Invalid(f"a tool call that is not JSON: {error}")
    except (LookupError, TypeError, StopIteration):
        return Invalid(f"no tool call with a name and arguments of {', '.join(tool.name for tool in protocol.tools)}")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return Invalid(f"{tool.argument} must be a list of strings")
    return _search(items[: tool.max_items], protocol, tool)


def _search(written: Sequence[str], protocol: Protocol, tool: Tool | None = None) -> Action:
    unwanted = {ord(char): None for char in protocol.query_strip}
    # JSON can spell half of a surrogate pair, which nothing after this point can encode.
    texts = [query.encode("utf-8", "replace").decode("utf-8") for query in written]
    queries = tuple(" ".join(text.translate(unwanted).split()) for text in texts)
    longest = max(map(len, queries), default=0)
    if longest > MAX_QUERY_CHARS:
        return Invalid(f"query of {longest} characters")
    if not queries or not all(queries):
        return Invalid("empty query")
    return Search(queries[0], queries[1:], tool)


def last_between(text: str, tags: Tags) -> str | None:
    """Stripped text of the last complete pair of tags, or None."""
    end = text.rfind(tags.close)
    start = text.rfind(tags.open, 0, max(end, 0))
    return None if end < 0 or start < 0 else text[start + len(tags.open) : end].strip()


def first_between(text: str, tags: Tags) -> str | None:
    """Stripped text of the first complete pair of tags, or None."""
    start = text.find(tags.open)
    end = text.find(tags.close, start + len(tags.open))
    return None if end < 0 or start < 0 else text[start + len(tags.open) : end].strip()


def last_boxed(text: str) -> str | None:
    r"""Stripped text of the last `\boxed{…}` with balanced braces, or None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : place].strip()
    return None
