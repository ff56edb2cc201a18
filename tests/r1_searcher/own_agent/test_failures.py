"""Agents, models and services that fail: what is typed, what is counted, what is raised, and what is refused."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import aiohttp
import pytest
from support.episodes.fakes import (
    ROW,
    FakeRetriever,
    ScriptedPolicy,
    passages,
)
from support.episodes.own_agents import play_agent, player_of
from support.episodes.tool_agents import asks_once, here, user

from foundation.errors import RunAborted, Unavailable
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.own_agent.player import FAILURES_IN_A_ROW
from retriever.errors import RetrieverUnavailable


async def _raises(question, settings):
    await asks_once(question, settings)
    raise KeyError("no such key")


async def _edits(question, settings):
    await asks_once(question, settings)
    await asks_once(question + " again", settings)


async def _exits(question, settings):
    sys.exit(3)


async def _hangs(question, settings):
    await asyncio.sleep(60)


async def _says_a_number(question, settings):
    return 42


FAILURES = {
    _raises: "KeyError: 'no such key'",
    _edits: "messages[0] is not the user message",
    _exits: "sys.exit",
    _hangs: "no answer within 0.2 s",
    _says_a_number: "returns int",
}


@pytest.mark.parametrize("agent", FAILURES, ids=lambda agent: agent.__name__)
def test_failures_of_the_agent_are_typed(agent):
    trajectory = play_agent(agent, ["Paris"], here(), seconds=0.2 if agent is _hangs else 300.0)
    assert (trajectory.stop_reason, trajectory.failed) == (StopReason.AGENT_ERROR, True)
    assert FAILURES[agent] in trajectory.error and trajectory.ids


def test_no_answer_is_the_policys_doing():
    async def none(question, settings):
        await asks_once(question, settings)

    trajectory = play_agent(none, ["Paris"], here())
    assert (trajectory.stop_reason, trajectory.failed) == (StopReason.NO_ANSWER, False)


def test_outside_failures_are_failed_searches():
    async def searches(question, settings):
        with pytest.raises(Exception, match="over"):  # swallowed: the episode ends anyway
            await settings.search("tower")
        await asyncio.sleep(60)

    async def own(question, settings):
        raise Unavailable("my own index is down")

    for agent, results in ((searches, [RetrieverUnavailable("down")]), (own, [passages("x")])):
        trajectory = play_agent(agent, ["Paris"], here(*results))
        assert trajectory.stop_reason is StopReason.RETRIEVER_ERROR
        assert "down" in trajectory.searches[-1].error


def test_a_model_that_is_gone_and_bugs_are_raised_where_the_episode_is_played():
    class Gone:
        async def generate(self, ids, **options):
            raise RunAborted("the engine has ended")

    with pytest.raises(RunAborted, match="the engine has ended"):
        play_agent(asks_once, [], here(), policy=Gone())
    environment = replace(here(), retriever=FakeRetriever([ZeroDivisionError()]))

    async def searches(question, settings):
        await settings.search("x")

    with pytest.raises(ZeroDivisionError):
        play_agent(searches, [], environment)


def test_an_agent_that_always_fails_ends_the_run_and_one_success_counts_anew():
    async def run(agent, episodes):
        player, environment = player_of(agent), here()
        try:
            for _ in range(episodes):
                await player.play(environment, ROW, ScriptedPolicy(environment.tokenizer, ["Paris"]))
        finally:
            await player.close()

    calls = []

    async def sometimes(question, settings):
        calls.append(1)
        if len(calls) % FAILURES_IN_A_ROW:
            raise ValueError("broken")

    asyncio.run(run(sometimes, 2 * FAILURES_IN_A_ROW))
    with pytest.raises(RunAborted, match=rf"failed {FAILURES_IN_A_ROW} episodes in a row.*KeyError"):
        asyncio.run(run(_raises, FAILURES_IN_A_ROW))


WRONG = [
    ({}, 400, "invalid_request"),
    ({"messages": []}, 400, "invalid_request"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "invalid_request"),
    ({"messages": [user("x")], "n": 2}, 400, "unsupported"),
    ({"messages": [user("x")], "response_format": {"type": "json_object"}}, 400, "unsupported"),
    ({"messages": [user("x")], "tool_choice": "required"}, 400, "unsupported"),
    ({"messages": [user("x")], "max_tokens": 0}, 400, "invalid_request"),
    ({"messages": [user("x")], "stop": ["a"] * 17}, 400, "invalid_request"),
    ({"messages": [user("x")], "tools": [{"function": {}}]}, 400, "invalid_request"),
    ({"messages": [user("x")], "stream_options": []}, 400, "invalid_request"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "unsupported"),
    ([1], 400, "invalid_request"),
]


def test_what_cannot_be_is_refused_in_openais_form_and_the_key_is_asked_for():
    """None of the statuses is one that clients try again; the episode goes on after each of them."""
    answers = []

    async def asks(question, settings):
        url = f"{settings.base_url}/chat/completions"
        async with aiohttp.ClientSession() as session:
            for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {settings.api_key}"}):
                async with session.post(url, json={"messages": [user("x")]}, headers=headers) as reply:
                    answers.append((reply.status, (await reply.json())["error"]["code"]))
            headers = {"Authorization": f"Bearer {settings.api_key}"}
            for body, *_ in WRONG:
                async with session.post(url, json=body, headers=headers) as reply:
                    answers.append((reply.status, (await reply.json())["error"]["code"]))
            async with session.post(url, data=b"{", headers=headers) as reply:
                answers.append((reply.status, (await reply.json())["error"]["code"]))
            async with session.post(url, data=b" " * (17 << 20), headers=headers) as reply:
                answers.append((reply.status, (await reply.json())["error"]["code"]))
            other = settings.base_url.replace("/v1", "/v2")
            async with session.get(other, headers=headers) as reply:
                answers.append((reply.status, (await reply.json())["error"]["code"]))
        assert settings.api_key not in repr(settings)
        return await asks_once(question, settings)

    trajectory = play_agent(asks, ["Paris"], here())
    assert answers[:3] == [(401, "no_conversation")] * 3
    assert answers[3:-3] == [(status, code) for _, status, code in WRONG]
    assert answers[-3:] == [(400, "invalid_request"), (413, "too_large"), (401, "no_conversation")]
    assert (trajectory.answer, trajectory.error) == ("Paris", "")
