"""An episode as OpenAI's chat completion: thoughts, answer, sources and usage, at once or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from r1_searcher.agent_service.event_json import passage_json
from r1_searcher.agent_service.service import Admitted
from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.episode.watching import (
    ActionEnded,
    ActionGrew,
    DocumentsGiven,
    EpisodeEnded,
    Event,
    FeedbackGiven,
    Searched,
)


class ChatWriter:
    """Watches one episode, and tells its pieces: `{"reasoning_content": …}`, and the answer at its end.

    The thoughts are what the policy wrote, its queries included, up to where its answer begins. Text after the
    answer's tag waits until it is sure that this is the answer: where it is not, it was a thought.
    """

    def __init__(self, asked: Admitted, told: Callable[[Mapping[str, Any]], None] = lambda piece: None) -> None:
        self._asked = asked
        self._told = told
        self._tag = asked.agent.recipe.protocol.answer.open
        self._turn = ""
        """What of the turn is not told: the answer's tag, or what may become it, and all after it."""
        self._rest = ""
        """The same of the turn before, which was the answer if no other turn follows."""
        self._thoughts: list[str] = []
        self._searches: list[Searched] = []

    def __call__(self, event: Event) -> None:
        """Note what has happened."""
        match event:
            case ActionGrew(text):
                self._think(self._rest)
                self._rest = ""
                self._turn += text
                sure = _before(self._tag, self._turn)
                self._think(self._turn[:sure])
                self._turn = self._turn[sure:]
            case ActionEnded():
                self._rest, self._turn = self._turn, ""
                if self._tag not in self._rest:
                    self._think(self._rest)
                    self._rest = ""
            case DocumentsGiven(searches, _):
                self._searches += searches
                self._rest += "\n"
            case FeedbackGiven():
                self._rest += "\n"
            case EpisodeEnded(trajectory):
                if trajectory.answer is None:
                    self._think(self._rest)
                self._told({"content": trajectory.answer or "", "annotations": self.annotations})

    def _think(self, text: str) -> None:
        if text:
            self._thoughts.append(text)
            self._told({"reasoning_content": text})

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """The passages that the policy has read, each once, with the first query that found it."""
        found: dict[str, dict[str, Any]] = {}
        for search in self._searches:
            for passage in search.passages:
                source = {"type": "passage", "query": search.query, "passage": passage_json(passage)}
                found.setdefault(passage.id, source)
        return list(found.values())

    def completion(self, trajectory: Trajectory) -> dict[str, Any]:
        """The whole episode as one `chat.completion`."""
        message = {
            "role": "assistant",
            "content": trajectory.answer or "",
            "reasoning_content": "".join(self._thoughts),
            "annotations": self.annotations,
        }
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(trajectory), "logprobs": None}
        return {**_head(self._asked, "chat.completion"), "choices": [choice], "usage": usage(trajectory)}


def chunk(asked: Admitted, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A `chat.completion.chunk`."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
    return {**_head(asked, "chat.completion.chunk"), "choices": [choice]}


def usage_chunk(asked: Admitted, trajectory: Trajectory) -> dict[str, Any]:
    """The chunk without a choice that `stream_options.include_usage` asks for."""
    return {**_head(asked, "chat.completion.chunk"), "choices": [], "usage": usage(trajectory)}


def usage(trajectory: Trajectory) -> dict[str, int]:
    """Tokens that were read (prompt, documents, corrections) and written, and searches."""
    written = trajectory.token_count(SpanKind.ACTION)
    return {
        "prompt_tokens": len(trajectory.ids) - written,
        "completion_tokens": written,
        "total_tokens": len(trajectory.ids),
        "document_tokens": trajectory.token_count(SpanKind.DOCUMENTS),
        "searches": len(trajectory.searches),
    }


def finish_reason(trajectory: Trajectory) -> str:
    """`length` where the tokens ran out, else `stop`; `stop_reason` of the stored episode tells more."""
    return "length" if trajectory.stop_reason is StopReason.LENGTH else "stop"


def _head(asked: Admitted, kind: str) -> dict[str, Any]:
    return {"id": asked.name, "object": kind, "created": asked.created, "model": asked.model}


def _before(tag: str, text: str) -> int:
    """Length of what stands before the tag, or before what may become it when more text comes."""
    place = text.find(tag)
    if place >= 0:
        return place
    begun = next((length for length in range(len(tag) - 1, 0, -1) if text.endswith(tag[:length])), 0)
    return len(text) - begun
