"""Episodes of a user's agent over real HTTP: the example, parallel conversations, streams, hang-ups."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import aiohttp
import pytest
import requests
from support.episodes.fakes import (
    ROOMY,
    ROW,
    ScriptedPolicy,
    Turn,
    passages,
    play,
    turn_that_answers,
    turn_that_asks,
)
from support.episodes.own_agents import TOOL, check_record, play_agent, player_of
from support.episodes.tool_agents import EXAMPLE, PROTOCOL, asks_once, here, toy, user

from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import run_episode
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.episode.watching import DocumentsGiven, Event
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.own_agent.player import OwnAgentPlayer

EPISODES = {
    "answered": ([turn_that_asks(PROTOCOL, "tower"), turn_that_answers(PROTOCOL, "Paris")], ROOMY),
    "several queries": ([turn_that_asks(PROTOCOL, "tower", "river"), turn_that_answers(PROTOCOL, "Paris")], ROOMY),
    "no answer": (["Hm."], ROOMY),
    "at once": ([turn_that_answers(PROTOCOL, "Paris")], ROOMY),
    "cut": ([turn_that_asks(PROTOCOL, "tower"), Turn("Hm", rambles=True)], ROOMY),
    "too many searches": ([turn_that_asks(PROTOCOL, "tower")] * 3, replace(ROOMY, max_searches=2)),
}


@pytest.mark.parametrize("name", EPISODES)
def test_the_example_plays_what_the_built_in_loop_plays(name):
    """Same policy, same protocol: the same ids, spans, log-probs, end and answer as of the recipe deep_researcher."""
    turns, limits = EPISODES[name]
    found = passages("The tower stands in Paris.", "A river </tool_response> flows.")
    built_in = play(turns, found, protocol=PROTOCOL, tokenizer=toy(), limits=limits).trajectory

    async def own():
        player = OwnAgentPlayer(OwnAgent.of_function(f"{EXAMPLE}:search_agent", 300.0))
        environment = here(found, limits=limits)
        policy = ScriptedPolicy(environment.tokenizer, turns)
        try:
            trajectory = await player.play(environment, ROW, policy)
        finally:
            await player.close()
        check_record(trajectory, policy)
        return trajectory

    trajectory = asyncio.run(own())
    assert (trajectory.ids, trajectory.spans, trajectory.logprobs) == (
        built_in.ids,
        built_in.spans,
        built_in.logprobs,
    )
    assert (trajectory.stop_reason, trajectory.answer) == (built_in.stop_reason, built_in.answer)
    told = [(search.query, search.shown_ids, search.tool) for search in trajectory.searches]
    assert told == [(search.query, search.shown_ids, search.tool) for search in built_in.searches]


def test_parallel_conversations_do_not_mix():
    """Sixty at a time, each with turns of its own: every one is recorded as if it were alone."""

    async def chats(question, settings):
        client, messages = settings.openai(), [user(question)]
        for _ in range(3):
            reply = await client.chat.completions.create(model="policy", messages=messages)
            messages += [reply.choices[0].message.model_dump(exclude_none=True), user("go on")]
        return messages[-2]["content"]

    async def all_of_them():
        player, environment = player_of(chats, slots=60), here()
        rows = [QARow(f"q{n}", f"Question {n}?", ("x",)) for n in range(60)]
        policies = [ScriptedPolicy(environment.tokenizer, [f"{n}:{turn}" for turn in range(3)]) for n in range(60)]
        try:
            played = zip(rows, policies, strict=True)
            return policies, await asyncio.gather(*(player.play(environment, row, policy) for row, policy in played))
        finally:
            await player.close()

    policies, trajectories = asyncio.run(all_of_them())
    for number, (policy, trajectory) in enumerate(zip(policies, trajectories, strict=True)):
        check_record(trajectory, policy)
        assert f"Question {number}?" in trajectory.spans[0].text
        assert (trajectory.answer, trajectory.stop_reason) == (f"{number}:2", StopReason.ANSWERED)


def test_no_more_episodes_at_once_than_the_engine_has_slots():
    running = most = 0

    async def counts(question, settings):
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asks_once(question, settings)
        running -= 1

    async def all_of_them():
        player, environment = player_of(counts, slots=3), here()
        policies = [ScriptedPolicy(environment.tokenizer, ["x"]) for _ in range(9)]
        await asyncio.gather(*(player.play(environment, ROW, policy) for policy in policies))
        await player.close()

    asyncio.run(all_of_them())
    assert most == 3


def test_a_stream_says_the_same():
    call = '<tool_call>{"name": "web_search", "arguments": {"query": ["tower"]}}</tool_call>'
    seen = []

    async def streams(question, settings):
        client, messages = settings.openai(), [user(question)]
        assert (await client.models.list()).data[0].id == settings.model
        options = {"model": "policy", "tools": [TOOL], "stream": True, "stream_options": {"include_usage": True}}
        stream = await client.chat.completions.create(messages=messages, **options)
        text, calls = "", []
        async for chunk in stream:
            if not chunk.choices:
                seen.append(chunk.usage.total_tokens)
                continue
            text += chunk.choices[0].delta.content or ""
            calls += chunk.choices[0].delta.tool_calls or []
            seen.append(chunk.choices[0].finish_reason)
        function = {"name": calls[0].function.name, "arguments": calls[0].function.arguments}
        told = [{"id": "c", "type": "function", "function": function}]
        messages.append({"role": "assistant", "content": text, "tool_calls": told})
        messages.append({"role": "tool", "tool_call_id": "c", "content": "Paris"})
        stream = await client.chat.completions.create(messages=messages, **options)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    trajectory = play_agent(streams, [f"Hm. {call}", "In Paris."], here())
    assert (trajectory.answer, trajectory.error) == ("In Paris.", "")
    tokens = trajectory.of_kind(SpanKind.ACTION)[0].end
    assert seen == [None, None, None, "tool_calls", tokens]


def test_who_hangs_up_and_asks_again_gets_the_answer_that_was_sampled():
    """The turn is sampled once; the agent's second request, sent while it is sampled, waits for it."""

    class Slow(ScriptedPolicy):
        async def generate(self, ids, **options):
            await asyncio.sleep(0.3)
            return await super().generate(ids, **options)

    async def impatient(question, settings):
        body = {"model": "policy", "messages": [user(question)]}
        headers = {"Authorization": f"Bearer {settings.api_key}"}
        url = f"{settings.base_url}/chat/completions"
        async with aiohttp.ClientSession(headers=headers) as session:
            with pytest.raises(TimeoutError):
                await session.post(url, json=body, timeout=aiohttp.ClientTimeout(total=0.05))
            async with session.post(url, json=body) as reply:
                return (await reply.json())["choices"][0]["message"]["content"]

    environment = here()
    policy = Slow(environment.tokenizer, ["Paris"])
    trajectory = play_agent(impatient, [], environment, policy=policy)
    assert (trajectory.answer, len(policy.asked)) == ("Paris", 1)
    check_record(trajectory, policy)


def test_an_agent_that_leaves_while_a_turn_is_sampled_gives_the_engine_its_slot_back():
    sampling, given_up = asyncio.Event(), []

    class Endless:
        async def generate(self, ids, **options):
            sampling.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                given_up.append(True)
                raise

    async def leaves(question, settings):
        asyncio.ensure_future(asks_once(question, settings)).add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )
        await sampling.wait()
        return "I know."

    started = time.monotonic()
    trajectory = play_agent(leaves, [], here(), policy=Endless())
    assert (trajectory.answer, trajectory.stop_reason) == ("I know.", StopReason.ANSWERED)
    assert given_up == [True] and time.monotonic() - started < 20
    assert trajectory.of_kind(SpanKind.ACTION) == ()


def test_a_conversation_is_closed_when_its_episode_ends():
    import openai

    kept = []

    async def keeps(question, settings):
        kept.append(settings)
        return "Paris"

    async def run():
        player, environment = player_of(keeps), here()
        await player.play(environment, ROW, ScriptedPolicy(environment.tokenizer, []))
        with pytest.raises(openai.AuthenticationError):
            await asks_once("more?", kept[0])
        await player.close()
        with pytest.raises(requests.ConnectionError):
            requests.get(kept[0].base_url, timeout=5)

    asyncio.run(run())


def test_halves_of_characters_are_no_crash():
    async def asks(question, settings):
        body = json.dumps({"messages": [user("a \ud800 b")]})
        headers = {"Authorization": f"Bearer {settings.api_key}"}
        url = f"{settings.base_url}/chat/completions"
        async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=body) as reply:
            return (await reply.json())["choices"][0]["message"]["content"]

    trajectory = play_agent(asks, ["Paris"], here())
    assert "a ? b" in trajectory.spans[0].text


def test_whoever_watches_is_told_what_the_built_in_loop_tells():
    turns, limits = EPISODES["answered"]

    async def events_of(play) -> list[Event]:
        seen: list[Event] = []
        environment = here(passages("The tower stands in Paris."), limits=limits)
        await play(environment, ROW, ScriptedPolicy(environment.tokenizer, turns), watch=seen.append)
        return seen

    async def both() -> tuple[list[Event], list[Event]]:
        player = OwnAgentPlayer(OwnAgent.of_function(f"{EXAMPLE}:search_agent", 300.0))
        try:
            return await events_of(player.play), await events_of(run_episode)
        finally:
            await player.close()

    own, built_in = asyncio.run(both())
    assert [type(event) for event in own] == [type(event) for event in built_in]
    assert [getattr(event, "text", None) for event in own] == [getattr(event, "text", None) for event in built_in]
    (given,) = [event for event in own if isinstance(event, DocumentsGiven)]
    assert [(one.query, one.tool, len(one.passages)) for one in given.searches] == [("tower", "web_search", 1)]
