"""An episode as it happens: the events that a watcher sees, and a turn's text while its ids still arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1_searcher.episode.policy import Completion, Policy, StreamingPolicy
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import Trajectory
from retriever.passage import Passage


@dataclass(frozen=True)
class PromptGiven:
    """The question with its instructions, as the policy reads it."""

    text: str


@dataclass(frozen=True)
class ActionGrew:
    """The policy has written further text of its turn."""

    text: str


@dataclass(frozen=True)
class ActionEnded:
    """The policy's turn is over."""

    text: str
    """The whole turn. What `ActionGrew` told adds up to it, where the tokenizer's texts add up."""


@dataclass(frozen=True)
class SearchStarted:
    """The policy's queries go to a retriever."""

    queries: tuple[str, ...]
    tool: str = ""
    """Name of the tool that was called, in protocols with tools."""


@dataclass(frozen=True)
class Searched:
    """The outcome of one query."""

    query: str
    passages: tuple[Passage, ...]
    """Those that were inserted, best first."""
    seconds: float
    error: str = ""
    """Type and message of the failure, where there was one."""
    tool: str = ""


@dataclass(frozen=True)
class DocumentsGiven:
    """The searches are over."""

    searches: tuple[Searched, ...]
    text: str
    """What was inserted; empty where a search failed or nothing fitted, which ends the episode."""


@dataclass(frozen=True)
class FeedbackGiven:
    """The environment has corrected the policy."""

    text: str


@dataclass(frozen=True)
class EpisodeEnded:
    """The episode is over."""

    trajectory: Trajectory


Event = PromptGiven | ActionGrew | ActionEnded | SearchStarted | DocumentsGiven | FeedbackGiven | EpisodeEnded
Watch = Callable[[Event], None]
"""Is told of each event in its order, while the episode waits: it must be quick."""

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a text ends in while the last of its characters is still without some of its bytes."""


class WatchedTurn:
    """One turn of the policy, whose text is told as it grows, where anybody watches."""

    def __init__(self, tokenizer: Tokenizer, watch: Watch | None) -> None:
        self._tokenizer = tokenizer
        self._watch = watch
        self._ids: list[int] = []
        self._begun = self._told = 0  # the text of the ids before `_told` is told; decoding begins at `_begun`
        self._text = ""

    async def play(self, policy: Policy, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """The turn; see `Policy.generate`."""
        if self._watch is not None and isinstance(policy, StreamingPolicy):
            return await policy.stream(ids, stops=stops, max_tokens=max_tokens, told=self._grow)
        return await policy.generate(ids, stops=stops, max_tokens=max_tokens)

    def end(self, text: str) -> None:
        """Tell the rest of the turn, whose text this is."""
        if self._watch is None:
            return
        if text.startswith(self._text):
            self._tell(text[len(self._text) :])
        self._watch(ActionEnded(text))

    def _grow(self, ids: Sequence[int]) -> None:
        """Tell the text of further ids, as far as it is sure: an EOS may be the turn's end, which is no text.

        A few ids are decoded again with the new ones, because the text of an id may depend on the one before.
        """
        self._ids += ids
        end = len(self._ids)
        while end and self._ids[end - 1] in self._tokenizer.eos_ids:
            end -= 1
        if end <= self._told:
            return
        before = self._tokenizer.decode(self._ids[self._begun : self._told])
        text = self._tokenizer.decode(self._ids[self._begun : end])
        if text.startswith(before) and not text.endswith(_INCOMPLETE):
            self._tell(text[len(before) :])
            self._begun, self._told = self._told, end

    def _tell(self, text: str) -> None:
        if text and self._watch is not None:
            self._text += text
            self._watch(ActionGrew(text))
