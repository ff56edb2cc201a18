"""What an agent and the policy have said to each other: which request repeats it, continues it, or changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1_searcher.own_agent.messages import ChatRequest, Message, Refused, ToolCall


@dataclass(frozen=True)
class Turn:
    """One answer of the policy, as the agent is told."""

    message: Message
    finish_reason: str
    """`stop`, `tool_calls` or `length`, as OpenAI's clients know them."""
    prompt_tokens: int
    completion_tokens: int


class History:
    """The messages of one conversation, which may only grow."""

    def __init__(self) -> None:
        self.messages: tuple[Message, ...] = ()
        """Everything so far; the last message is the policy's."""
        self._turn: Turn | None = None
        """The policy's latest."""
        self._tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Those of the latest turn."""
        return self._turn.message.tool_calls if self._turn is not None else ()

    def answer_to(self, request: ChatRequest) -> Turn | None:
        """The latest turn, where it answered this very request: a client that lost the answer asks again."""
        repeated = (
            len(request.messages) == len(self.messages) - 1
            and _first_difference(request.messages, self.messages) is None
            and _same_tools(request.tools, self._tools)
        )
        return self._turn if repeated else None

    def added(self, request: ChatRequest) -> tuple[Message, ...]:
        """The messages that a request adds. Raises `Refused` where it does not say again what was said."""
        place = _first_difference(self.messages, request.messages)
        if place is not None:
            raise Refused(
                "history_changed",
                f"messages[{place}] is not the {self.messages[place].role} message that was recorded there: an episode "
                "trains one conversation, which may only grow. Send all earlier messages as they were, the policy's "
                "with content and tool_calls as they came; a second conversation is a second episode",
            )
        if self.messages and not _same_tools(self._tools, request.tools):
            raise Refused("history_changed", "'tools' are others than in the first request; they stand in the prompt")
        return request.messages[len(self.messages) :]

    def add(self, request: ChatRequest, turn: Turn) -> None:
        """The policy has answered the request."""
        self.messages, self._tools, self._turn = (*request.messages, turn.message), request.tools, turn


def _first_difference(known: Sequence[Message], sent: Sequence[Message]) -> int | None:
    """Place of the first message of `known` that `sent` does not begin with; None where it begins with all of them."""
    for place, message in enumerate(known):
        if place >= len(sent) or not message.is_same(sent[place]):
            return place
    return None


def _same_tools(some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    return json.dumps(list(some), sort_keys=True) == json.dumps(list(others), sort_keys=True)
