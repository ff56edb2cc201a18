"""A protocol: a system's tags, prompt, wrapping of passages, and ends of a turn.

A protocol is a value; the rows are in `r1_searcher.recipe.protocols`. The loop has no branch on a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from foundation.errors import InputError
from r1_searcher.episode.trajectory import Trajectory

QUERY_FIELD = "{query}"
"""In `Protocol.after_documents`: what was searched for."""


@dataclass(frozen=True)
class Tags:
    """A pair of literal strings around a piece of text."""

    open: str
    close: str


@dataclass(frozen=True)
class Tool:
    """A function that the policy calls by name with a JSON list, and the JSON shape of what comes back."""

    name: str
    retriever: str
    """Key of the environment's retrievers that answers it: `search` or `browse`."""
    argument: str
    """Name of the argument: a list of strings, each of them one request."""
    description: str
    asked: str
    """Key of a result under which its request stands."""
    found: str
    """Key of a result under which its passages stand."""
    fields: Mapping[str, str]
    """Keys of one passage, and which of its fields (`id`, `title`, `text`, `rank`) each holds."""
    max_items: int = 3
    """Strings of one call that are answered; the rest of the list is ignored."""

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as chat templates take it."""
        items = {"type": "array", "items": {"type": "string"}}
        parameters = {"type": "object", "properties": {self.argument: items}, "required": [self.argument]}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Protocol:
    """The exchange between policy and environment, as text."""

    name: str
    prompt: str
    """The text before the policy's first turn; `{question}` is replaced, every other byte is literal."""
    query: Tags
    """Around a query, or around the JSON of a tool call where the protocol has tools."""
    documents: Tags
    answer: Tags
    think: Tags
    passage_format: str = ""
    """One passage; fields `{rank}` (from 1), `{title}`, `{text}`, `{titled_text}`. Unused with tools."""
    before_documents: str = ""
    """Between the end of the action and the passages, the opening tag included."""
    after_documents: str = ""
    """After the last passage, the closing tag included; `{query}` is replaced by what was searched for."""
    no_documents: str = ""
    """In place of the passages when the search found none."""
    passage_separator: str = ""
    chat: bool = False
    """Whether the prompt goes through the tokenizer's chat template."""
    documents_role: str = ""
    """Whose message the documents are in a chat without tools, such as `user`; empty: they stand in the assistant's."""
    system_prompt: str = ""
    """System message of a chat; `{date}` becomes today's date. Empty: none."""
    prefill: str = ""
    """Start of the assistant's turn, written for it and not trained."""
    query_strip: str = ""
    """Characters deleted from a query before it is sent."""
    stops_at_answer: bool = False
    """Whether the answer's closing tag ends a turn, and the episode with it; else only EOS does."""
    stops_at_query: bool = True
    """Whether the query's closing tag ends a turn; else EOS does, and the turn is read as a whole."""
    boxed: bool = False
    """Whether the answer stands in `\\boxed{}` inside the answer tags."""
    first_answer: bool = False
    """Whether of several answers in a turn the first one counts; else the last."""
    plain_answer: bool = False
    """Whether a turn that is no search is the answer as a whole; what stands in answer tags otherwise."""
    forgiving: bool = False
    """Whether the episode continues after a malformed action; else it ends there."""
    feedback: str = ""
    """Correction that a forgiving protocol inserts after a malformed action, and also where the policy ended its turn
    (EOS, budget of the turn) without an action. Empty: nothing is inserted, and such a turn ends the episode."""
    thinks_once: bool = False
    """Whether one thought goes on through all searches and is closed before the answer; else each turn closes its own.
    Only demonstrations are written by it; what a policy may do is the business of `format`."""
    tools: tuple[Tool, ...] = ()
    """Functions that are called with JSON; their results go back as the chat template's tool messages."""
    needs_agent: bool = False
    """Whether only an agent of the user's can play its episodes: what is written here is what rewards read of them."""
    ends_with_question_mark: bool = False
    """Whether a question that lacks its question mark gets one."""
    format: Mapping[str, Rule] = field(default_factory=dict)
    """Rules of a well-formed episode, by name; rewards without rules of their own are about these."""

    def __post_init__(self) -> None:
        if (times := self.prompt.count("{question}")) != 1:
            raise InputError(f"the prompt of {self.name!r} must hold {{question}} once, found it {times} times")
        if self.feedback and not self.forgiving:
            raise InputError(f"the protocol {self.name!r} has a feedback text; set forgiving=True, or leave it out")

    def is_well_formed(self, trajectory: Trajectory) -> bool:
        """Whether an episode keeps every rule of the format."""
        return all(rule(trajectory, self) for rule in self.format.values())

    @property
    def frame(self) -> Tags:
        """What it writes around the passages; a chat template may write more around that."""
        return Tags(self.before_documents, self.after_documents)

    @property
    def reads_pages(self) -> bool:
        """Whether one of its tools reads pages, beside the search."""
        return any(tool.retriever == "browse" for tool in self.tools)

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings at which a turn ends; EOS always ends one."""
        query = (self.query.close,) if self.stops_at_query else ()
        return (*query, self.answer.close) if self.stops_at_answer else query

    @property
    def tags(self) -> tuple[str, ...]:
        """Every literal tag, longest first: what a passage must not be able to forge."""
        pairs = (self.query, self.documents, self.answer, self.think)
        return tuple(sorted((tag for pair in pairs for tag in (pair.open, pair.close)), key=len, reverse=True))


Rule = Callable[[Trajectory, Protocol], bool]
"""Whether an episode under a protocol keeps a rule."""


def prompt_text(name: str) -> str:
    """The exact text of a file in `r1_searcher/recipe/prompts`."""
    return resources.files("r1_searcher").joinpath("recipe", "prompts", name).read_text(encoding="utf-8")
