"""Episodes of a user's agent over real HTTP: the example, parallel conversations, streams, hang-ups, failures."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import openai
import pytest
import requests
from support.episodes.fakes import (
    EOS,
    ROOMY,
    ROW,
    ByteTokenizer,
    FakeRetriever,
    ScriptedPolicy,
    Turn,
    passages,
    play,
    turn_that_answers,
    turn_that_asks,
)
from support.episodes.own_agents import TOOL, check_record, environment_of, play_agent, player_of

from data_prep.tiny.dialects import TOOL_TEMPLATE
from foundation.errors import InputError, RunAborted, Unavailable
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.episode.watching import DocumentsGiven, Event
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.own_agent.player import FAILURES_IN_A_ROW, OwnAgentPlayer
from r1_searcher.recipe.protocols import find_protocol
from retriever.errors import RetrieverUnavailable

EXAMPLE = Path(__file__).parents[3] / "train_scripts" / "own_agent" / "search_agent.py"
PROTOCOL = find_protocol("deep_researcher.tiny")


def toy() -> ByteTokenizer:
    return ByteTokenizer(PROTOCOL.tags, PROTOCOL.tags, template=TOOL_TEMPLATE.replace("eos_token", f"'{EOS}'"))


def here(*results, limits=ROOMY) -> Environment:
    return environment_of(toy(), *results, limits=limits, protocol=PROTOCOL)


def user(text: str) -> dict:
    return {"role": "user", "content": text}


async def asks_once(question, settings) -> str | None:
    reply = await settings.openai().chat.completions.create(model="policy", messages=[user(question)])
    return reply.choices[0].message.content


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


def test_a_plain_function_runs_in_a_thread_with_a_client_of_its_own(tmp_path):
    file = tmp_path / "sync_agent.py"
    file.write_text(
        textwrap.dedent("""
            import requests

            def agent(question, settings):
                headers = {"Authorization": f"Bearer {settings.api_key}"}
                found = requests.post(settings.search_url, json={"query": question}, headers=headers).json()
                messages = [{"role": "user", "content": found["passages"][0]["text"]}]
                url = f"{settings.base_url}/chat/completions"
                reply = requests.post(url, json={"messages": messages}, headers=headers).json()
                return reply["choices"][0]["message"]["content"]
        """)
    )

    async def run():
        player, environment = OwnAgentPlayer(OwnAgent.of_function(f"{file}:agent", 300.0)), here()
        policies = [ScriptedPolicy(environment.tokenizer, ["Paris"]) for _ in range(4)]
        try:
            return await asyncio.gather(*(player.play(environment, ROW, policy) for policy in policies))
        finally:
            await player.close()

    for trajectory in asyncio.run(run()):
        assert (trajectory.answer, trajectory.error) == ("Paris", "")
        assert "A tower in Paris." in trajectory.spans[0].text
        assert trajectory.searches[0].shown_ids == ("p1",)


PROGRAM = """
import json, sys, threading, urllib.request
print("ready", flush=True)  # no line of ours
lock = threading.Lock()
def say(line):
    with lock:
        print(json.dumps(line), flush=True)
def answer(job):
    if job["question"] == "exit":
        import os; os._exit(7)
    if job["question"] == "error":
        return say({"id": job["id"], "error": "I cannot"})
    if job["question"] == "outside":
        return say({"id": job["id"], "error": "my index is down", "outside": True})
    body = json.dumps({"messages": [{"role": "user", "content": job["question"]}]}).encode()
    headers = {"Authorization": "Bearer " + job["api_key"], "Content-Type": "application/json"}
    request = urllib.request.Request(job["base_url"] + "/chat/completions", body, headers)
    with urllib.request.urlopen(request) as reply:
        say({"id": job["id"], "answer": json.load(reply)["choices"][0]["message"]["content"]})
for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),)).start()
"""


def test_a_program_in_any_language_speaks_json_lines(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)

    async def run():
        player, environment = OwnAgentPlayer(OwnAgent.of_command(f"{sys.executable} {file}", 300.0)), here()

        async def one(question):
            row = replace(ROW, question=question)
            return await player.play(environment, row, ScriptedPolicy(environment.tokenizer, [f"of {question}"]))

        try:
            together = await asyncio.gather(*(one(f"Question {n}?") for n in range(5)), one("error"), one("outside"))
            return together, await one("exit"), await one("after")
        finally:
            await player.close()

    (*answered, error, outside), ended, after = asyncio.run(run())
    assert [trajectory.answer for trajectory in answered] == [f"of Question {n}?" for n in range(5)]
    assert (error.stop_reason, error.error) == (StopReason.AGENT_ERROR, "I cannot")
    assert (outside.stop_reason, outside.searches[-1].error) == (StopReason.RETRIEVER_ERROR, "my index is down")
    assert (ended.stop_reason, ended.error) == (StopReason.AGENT_ERROR, "its program ended with status 7")
    assert after.answer == "of after"  # started again


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("search_agent.py", "must be FILE.py:function"),
        ("nowhere.py:agent", "is not there"),
        (f"{EXAMPLE}:nobody", "has no function 'nobody'"),
        (f"{EXAMPLE}:answer_in", "must take"),
        ("{broken}:agent", "fails: ZeroDivisionError"),
    ],
)
def test_an_agent_that_cannot_be_started_is_bad_input(tmp_path, written, why):
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    with pytest.raises(InputError, match=why):
        OwnAgent.of_function(written.replace("{broken}", str(broken)), 1.0)


def test_a_program_that_cannot_be_started_is_bad_input():
    for command, why in (("no-such-program --flag", "no program 'no-such-program'"), (" ", "empty"), ("'x", "quot")):
        with pytest.raises(InputError, match=why):
            OwnAgent.of_command(command, 1.0)


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


def test_a_conversation_is_closed_when_its_episode_ends():
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
