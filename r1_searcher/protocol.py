"""How a system talks: its tags, its prompt, how passages are wrapped, what a turn may end with.

A protocol is a value.  Adding a system is adding a row to :data:`PROTOCOLS`; the loop has no branch on a name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources


@dataclass(frozen=True)
class Tags:
    """A pair of literal strings around a piece of text."""

    open: str
    close: str


@dataclass(frozen=True)
class Protocol:
    """The exchange between policy and environment, as text."""

    name: str
    prompt: str
    """File in ``r1_searcher/prompts``; ``{question}`` is replaced, every other byte is literal."""
    query: Tags
    documents: Tags
    answer: Tags
    think: Tags
    passage_format: str
    """One passage; fields ``{rank}`` (from 1), ``{title}``, ``{text}``."""
    before_documents: str
    """Between the end of the action and the passages, the opening tag included."""
    after_documents: str
    """After the last passage, the closing tag included."""
    no_documents: str
    """In place of the passages when the search found none."""
    system_prompt: str = ""
    """File of the system message; a protocol that has one speaks through the tokenizer's chat template."""
    prefill: str = ""
    """Start of the assistant's turn, written for it and not trained."""
    query_strip: str = ""
    """Characters deleted from a query before it is sent."""
    feedback: str | None = None
    """Inserted after a malformed action, which then may be tried again; None ends the episode."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings at which a turn ends; EOS always ends one."""
        return (self.query.close,)

    @property
    def tags(self) -> tuple[str, ...]:
        """Every literal tag, longest first: what a passage must not be able to forge."""
        pairs = (self.query, self.documents, self.answer, self.think)
        return tuple(sorted((tag for pair in pairs for tag in (pair.open, pair.close)), key=len, reverse=True))

    @property
    def is_chat(self) -> bool:
        """Whether the prompt goes through the tokenizer's chat template."""
        return bool(self.system_prompt)


def prompt_text(name: str) -> str:
    """The exact text of a file in ``r1_searcher/prompts``."""
    return resources.files("r1_searcher").joinpath("prompts", name).read_text(encoding="utf-8")


# Tags, wrapping and query clean-up as R1-Searcher's rollout does them: the environment's text is
# "\n\n<|begin_of_documents|>\n(1)...\n(2)...\n<|end_of_documents|>\n\n", the word None stands for no result, a query
# loses its double quotes, and a malformed action ends the episode.
R1_SEARCHER_BASE = Protocol(
    name="r1_searcher.base",
    prompt="r1_searcher_base.txt",
    query=Tags("<|begin_of_query|>", "<|end_of_query|>"),
    documents=Tags("<|begin_of_documents|>", "<|end_of_documents|>"),
    answer=Tags("<answer>", "</answer>"),
    think=Tags("<think>", "</think>"),
    passage_format="({rank})Title: {title} Text: {text}\n",
    before_documents="\n\n<|begin_of_documents|>\n",
    after_documents="<|end_of_documents|>\n\n",
    no_documents="None",
    query_strip='"',
)

R1_SEARCHER_CHAT = replace(
    R1_SEARCHER_BASE,
    name="r1_searcher.chat",
    prompt="r1_searcher_chat_user.txt",
    system_prompt="r1_searcher_chat_system.txt",
    prefill="<think>",
)

# The tiny world's model has a vocabulary of a few hundred tokens: a prompt of instructions would be noise to it.
R1_SEARCHER_TINY = replace(
    R1_SEARCHER_BASE,
    name="r1_searcher.tiny",
    prompt="r1_searcher_tiny.txt",
    passage_format="({rank}) {text}\n",
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (R1_SEARCHER_BASE, R1_SEARCHER_CHAT, R1_SEARCHER_TINY)
}
