"""A user's agent and what it talks to: scripted policies behind the real conversation, server and player."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1_searcher.episode.limits import Limits
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.own_agent.agents import FunctionRunner, OwnAgent
from r1_searcher.own_agent.chat_server import ClientSettings
from r1_searcher.own_agent.conversation import Conversation
from r1_searcher.own_agent.messages import ChatRequest
from r1_searcher.own_agent.player import OwnAgentPlayer
from r1_searcher.recipe.protocols import OWN_AGENT
from support.episodes.fakes import ROOMY, ROW, FakeRetriever, Result, ScriptedPolicy, Turn, logprob_of, passages

TOOL = {"type": "function", "function": {"name": "web_search", "parameters": {"type": "object", "properties": {}}}}
TOOLS_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'tool' %}<tool_response>{{ m.content }}</tool_response>{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
"""ChatML with the results of tools; what a test's tokenizer is given."""
Agent = Callable[[str, ClientSettings], Awaitable[object]]


@dataclass(frozen=True)
class InMemory(OwnAgent):
    """An agent whose function stands in no file."""

    function: Agent = field(kw_only=True)

    def runner(self, slots: int) -> FunctionRunner:
        return FunctionRunner(self.function, slots)


def environment_of(
    tokenizer: Tokenizer, *results: Result, limits: Limits = ROOMY, protocol: Protocol = OWN_AGENT
) -> Environment:
    return Environment(protocol, limits, FakeRetriever(results or (passages("A tower in Paris."),)), tokenizer)


def request_of(messages: Sequence[dict[str, Any]], **further: Any) -> ChatRequest:
    return ChatRequest.parse({"messages": list(messages), **further})


def play_agent(
    agent: Agent,
    turns: Sequence[str | Turn],
    environment: Environment,
    *,
    seconds: float = 300.0,
    row: QARow = ROW,
    policy: Any = None,
) -> Trajectory:
    """One episode of an agent, over real HTTP."""

    async def play() -> Trajectory:
        player = player_of(agent, seconds=seconds)
        try:
            return await player.play(environment, row, policy or ScriptedPolicy(environment.tokenizer, turns))
        finally:
            await player.close()

    return asyncio.run(play())


def player_of(agent: Agent, *, slots: int = 16, seconds: float = 300.0) -> OwnAgentPlayer:
    """A player of a function that stands in no file."""
    return OwnAgentPlayer(InMemory("test.py:agent", seconds, function=agent), slots)


def check_record(trajectory: Trajectory, policy: ScriptedPolicy) -> None:
    """Spans tile the ids; actions are what was sampled, after exactly what the policy saw, with its log-probs."""
    place = 0
    for span in trajectory.spans:
        assert span.start == place <= span.end
        place = span.end
    assert place == len(trajectory.ids)
    actions = trajectory.of_kind(SpanKind.ACTION)
    assert [trajectory.ids[span.start : span.end] for span in actions] == policy.sampled
    assert [asked.ids for asked in policy.asked] == [trajectory.ids[: span.start] for span in actions]
    expected = [0.0] * len(trajectory.ids)
    for turn, span in enumerate(actions, start=1):
        for at in range(span.start, span.end):
            expected[at] = logprob_of(trajectory.ids[at], turn)
    assert trajectory.logprobs == tuple(expected)


async def converse(conversation: Conversation, messages: list[dict[str, Any]], **further: Any) -> dict[str, Any]:
    """Ask, and put the answer into the messages as a client would; gives it."""
    turn = await conversation.complete(request_of(messages, **further))
    answer = turn.message.to_json()
    messages.append(answer)
    return answer
