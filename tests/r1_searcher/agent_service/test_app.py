"""The service in process: every path, every refusal, hang-ups, and a thousand requests of nonsense."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.episodes.asked_agents import FOUND, FakePolicies, Reply, agent_of, call
from support.episodes.fakes import Turn, say

from foundation.errors import RunAborted
from r1_searcher.agent_service.app import create_app
from r1_searcher.agent_service.service import AgentService, ServiceLimits
from r1_searcher.agent_service.store import EpisodeStore
from r1_searcher.inference.agent import Agent
from r1_searcher.inference.decoding import Decoding
from retriever.errors import RetrieverUnavailable

CHAT = "/v1/chat/completions"
SAID = {"messages": [{"role": "user", "content": "Where is the tower?"}]}
THOUGHTS = "Hm. <|begin_of_query|>tower<|end_of_query|>\nI see. </think> "
Use = Callable[[Any, AgentService], Coroutine[Any, Any, Any]]


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Runs a coroutine that uses the app of these agents."""

    def run(use: Use, *agents: Agent, limits: ServiceLimits | None = None, **options: Any) -> Any:
        named = {f"model{number}": agent for number, agent in enumerate(agents or (agent_of(),), start=1)}
        store = EpisodeStore(tmp_path / "store", keep=3)

        async def within() -> Any:
            service = AgentService(named, store, limits)
            return await use(create_app(service, **options), service)

        try:
            return asyncio.run(within())
        finally:
            store.close()

    return run


def one(method: str, path: str, body: Any = None, **options: Any) -> Use:
    return lambda app, service: call(app, method, path, body, **options)


def test_a_question_is_answered_with_thoughts_sources_and_usage(serve):
    reply: Reply = serve(one("POST", CHAT, SAID))
    assert reply.status == 200
    (choice,) = reply.json["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Paris")
    assert choice["message"]["reasoning_content"] == THOUGHTS
    sources = choice["message"]["annotations"]
    assert [source["passage"] for source in sources] == [
        {"id": passage.id, "title": passage.title, "text": passage.text} for passage in FOUND
    ]
    assert {source["query"] for source in sources} == {"tower"}
    usage = reply.json["usage"]
    assert usage["searches"] == 1 and usage["document_tokens"] > 0
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert (reply.json["object"], reply.json["model"]) == ("chat.completion", "model1")


def test_a_stream_says_the_same_bit_by_bit(serve):
    body = SAID | {"stream": True, "stream_options": {"include_usage": True}}

    async def both(app, service):
        return await call(app, "POST", CHAT, body), await call(app, "POST", CHAT, SAID)

    streamed, whole = serve(both)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = streamed.events
    assert done == "[DONE]" and usage["choices"] == []
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    message = whole.json["choices"][0]["message"]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"] == "Paris"
    assert sum("reasoning_content" in delta for delta in deltas) > 20
    (sources,) = (delta["annotations"] for delta in deltas if "annotations" in delta)
    assert sources == message["annotations"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
    assert usage["usage"] == whole.json["usage"]
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("turns", "content", "thoughts", "finish"),
    [
        ((say("Paris"),), "Paris", "</think> ", "stop"),
        (("I do not know.",), "", "I do not know.", "stop"),
        ((Turn("<ans", rambles=True),), "", "<ans" + "x" * 508, "length"),
        (("<answer>Rome",), "", "<answer>Rome", "stop"),
        (("a < b <answer>Rome</answer>",), "Rome", "a < b ", "stop"),
    ],
)
def test_what_is_the_answer_and_what_a_thought(serve, turns, content, thoughts, finish, stream):
    reply = serve(one("POST", CHAT, SAID | {"stream": stream}), agent_of(FakePolicies(turns, sizes=(3, 1))))
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in reply.events[:-1]]
        message = {key: "".join(delta.get(key, "") for delta in deltas) for key in ("content", "reasoning_content")}
        found = reply.events[-2]["choices"][0]["finish_reason"]
    else:
        message, found = reply.json["choices"][0]["message"], reply.json["choices"][0]["finish_reason"]
    assert (message["content"], message["reasoning_content"], found) == (content, thoughts, finish)


def test_the_last_message_of_the_user_is_the_question(serve):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "Where is"}, {"type": "text", "text": "it?"}]},
        {"role": "assistant", "content": "well"},
    ]

    async def use(app, service):
        name = (await call(app, "POST", CHAT, {"messages": messages})).json["id"]
        return (await call(app, "GET", f"/episodes/{name}")).json["question"]

    assert serve(use) == "Where is\nit?"


def test_an_episode_is_watched_kept_and_rated(serve, tmp_path):
    async def use(app, service):
        watched = await call(app, "POST", "/episodes", {"question": "Where?", "model": None, "temperature": 0.5})
        name = watched.events[-1]["id"]
        rated = await call(app, "POST", "/ratings", {"id": name, "thumb": "up", "comment": "so"})
        return watched, await call(app, "GET", f"/episodes/{name}"), rated

    policies = FakePolicies()
    watched, stored, rated = serve(use, agent_of(policies))
    kinds = [event["type"] for event in watched.events]
    assert list(dict.fromkeys(kinds)) == ["prompt", "action", "search", "documents", "end"]
    end = watched.events[-1]
    assert (end["answer"], end["stop_reason"], end["n_searches"], end["model"]) == ("Paris", "answered", 1, "model1")
    (documents,) = (event for event in watched.events if event["type"] == "documents")
    (search,) = documents["searches"]
    assert (search["query"], search["error"]) == ("tower", None)
    assert [passage["text"] for passage in search["passages"]] == [passage.text for passage in FOUND]
    assert policies.decodings == [Decoding(0.5)]
    assert stored.json["question"] == "Where?" and stored.json["id"] == end["id"]
    assert [event["type"] for event in stored.json["events"]] == [
        "prompt", "action", "search", "documents", "action", "end",
    ]  # fmt: skip
    written = "".join(event["text"] for event in watched.events if event["type"] == "action")
    assert "".join(event["text"] for event in stored.json["events"] if event["type"] == "action") == written
    assert rated.status == 204
    (line,) = (tmp_path / "store" / "ratings.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["id"], row["thumb"], row["comment"], row["question"]) == (end["id"], "up", "so", "Where?")


def test_only_the_latest_episodes_are_kept(serve, tmp_path):
    async def use(app, service):
        names = [(await call(app, "POST", CHAT, SAID)).json["id"] for _ in range(4)]
        return [(await call(app, "GET", f"/episodes/{name}")).status for name in names]

    assert serve(use) == [404, 200, 200, 200]
    store = EpisodeStore(tmp_path / "store", keep=1)
    store.add("another-name", {"question": "?"})
    store.close()
    assert [file.stem for file in (tmp_path / "store" / "episodes").iterdir()] == ["another-name"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_search_is_an_error_and_no_answer(serve, stream):
    agent = agent_of(FakePolicies(), RetrieverUnavailable("nobody listens"))
    reply = serve(one("POST", CHAT, SAID | {"stream": stream}), agent)
    error = (reply.events[-1] if stream else reply.json)["error"]
    assert (error["code"], error["type"]) == ("retriever_unavailable", "server_error")
    assert "nobody listens" in error["message"]
    assert reply.status == (200 if stream else 503)


def test_a_failed_search_is_seen_by_who_watches(serve):
    agent = agent_of(FakePolicies(), RetrieverUnavailable("nobody listens"))
    reply = serve(one("POST", "/episodes", {"question": "Where?"}), agent)
    documents, end = reply.events[-2:]
    assert "nobody listens" in documents["searches"][0]["error"]
    assert (end["stop_reason"], end["answer"]) == ("retriever_error", None)


def test_models_side_by_side(serve):
    other = replace(agent_of(FakePolicies((say("Rome"),))))

    async def use(app, service):
        listed = (await call(app, "GET", "/v1/models")).json["data"]
        answers = [(await call(app, "POST", CHAT, SAID | {"model": row["id"]})).json for row in listed]
        return listed, [answer["choices"][0]["message"]["content"] for answer in answers]

    listed, answers = serve(use, agent_of(), other)
    assert [row["id"] for row in listed] == ["model1", "model2"] and answers == ["Paris", "Rome"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (SAID | {"model": "other"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request", "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "invalid_request", "question"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "invalid_request",
         "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, 400, "invalid_request", "question"),
        (SAID | {"temperature": -1}, 400, "invalid_request", "temperature"),
        (SAID | {"temperature": "hot"}, 400, "invalid_request", "temperature"),
        (SAID | {"top_p": 0}, 400, "invalid_request", "top_p"),
        (SAID | {"n": 2}, 400, "unsupported_parameter", "n"),
        (SAID | {"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        (SAID | {"stop": ["."]}, 400, "unsupported_parameter", "stop"),
        (SAID | {"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
        (b"{", 400, "invalid_request", None),
        (b'"\xff"', 400, "invalid_request", None),
        (b"[" * 100_000, 400, "invalid_request", None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "invalid_request", None),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_what_is_wrong(serve, body, status, code, param):
    reply = serve(one("POST", CHAT, body))
    assert reply.status == status, reply.body
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert reply.json["error"]["code"] == code
    if param is not None:
        assert reply.json["error"]["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "body", "options", "status"),
    [
        ("GET", CHAT, None, {}, 405),
        ("GET", "/nowhere", None, {}, 404),
        ("GET", "/episodes/unknown-name", None, {}, 404),
        ("GET", "/episodes/..%2f..%2fetc", None, {}, 404),
        ("POST", "/ratings", {"id": "unknown-name", "thumb": "up"}, {}, 404),
        ("POST", "/ratings", {"id": "unknown-name", "thumb": "sideways"}, {}, 400),
        ("POST", CHAT, SAID, {"headers": {"content-type": "text/plain"}}, 415),
        ("POST", CHAT, b" " * 2000, {}, 413),
    ],
)
def test_other_refusals_are_typed_too(serve, method, path, body, options, status):
    reply = serve(one(method, path, body, **options), max_body_bytes=1000)
    assert reply.status == status and reply.json["error"]["message"]


def test_with_a_token_only_the_page_and_health_are_open(serve):
    async def use(app, service):
        right = {"authorization": "Bearer secret"}
        paths = ("/", "/health", "/v1/models", "/metrics")
        return (
            [(await call(app, "GET", path)).status for path in paths],
            [(await call(app, "GET", path, headers={"authorization": "Bearer secre"})).status for path in paths],
            [(await call(app, "GET", path, headers=right)).status for path in paths],
            (await call(app, "POST", CHAT, SAID)).headers["www-authenticate"],
        )

    assert serve(use, token="secret") == ([200, 200, 401, 401], [200, 200, 401, 401], [200] * 4, "Bearer")


class TestLoad:
    """Many at once, people who go, and the end of the service."""

    async def _asked(self, app: Any, count: int, **options: Any) -> list[asyncio.Task[Reply]]:
        tasks = [asyncio.create_task(call(app, "POST", CHAT, SAID, **options)) for _ in range(count)]
        await asyncio.sleep(0.01)
        return tasks

    def test_so_many_at_once_so_many_in_line_and_the_rest_is_refused(self, serve):
        async def use(app, service):
            tasks = await self._asked(app, 5)
            counted = (await call(app, "GET", "/metrics")).body.decode()
            return [(await task).status for task in tasks], counted

        limits = ServiceLimits(at_once=1, waiting=2)
        statuses, counted = serve(use, agent_of(FakePolicies(pause_s=0.001)), limits=limits)
        assert sorted(statuses) == [200, 200, 200, 503, 503]
        assert "agent_running_episodes 1.0" in counted and "agent_waiting_requests 2.0" in counted
        assert 'agent_engine_requests{model="model1"} 1.0' in counted

    def test_who_waits_hears_the_place_in_the_line(self, serve):
        async def use(app, service):
            await self._asked(app, 2)
            return await call(app, "POST", "/episodes", {"question": "Where?"})

        limits = ServiceLimits(at_once=1, waiting=2)
        reply = serve(use, agent_of(FakePolicies(pause_s=0.001)), limits=limits)
        positions = [event["position"] for event in reply.events if event["type"] == "queued"]
        assert positions == [2, 1] and reply.events[-1]["answer"] == "Paris"

    @pytest.mark.parametrize("stream", [False, True])
    def test_who_hangs_up_gives_everything_back(self, serve, stream):
        policies = FakePolicies(pause_s=3600)

        async def use(app, service):
            gone = asyncio.Event()
            body = SAID | {"stream": stream}
            tasks = [asyncio.create_task(call(app, "POST", CHAT, body, hangs_up=gone)) for _ in range(4)]
            await asyncio.sleep(0.01)
            before = policies.unfinished
            gone.set()
            await asyncio.gather(*tasks)
            return before, policies.unfinished, service._turnstile.running, service._turnstile.waiting

        assert serve(use, agent_of(policies), limits=ServiceLimits(at_once=2)) == (2, 0, 0, 0)

    def test_an_episode_that_lasts_too_long_is_ended(self, serve):
        policies = FakePolicies(pause_s=3600)
        reply = serve(one("POST", CHAT, SAID), agent_of(policies), limits=ServiceLimits(episode_s=0.02))
        assert (reply.status, reply.json["error"]["code"], policies.unfinished) == (503, "timeout", 0)

    def test_a_stop_sends_the_line_away_and_lets_the_others_finish(self, serve):
        async def use(app, service):
            tasks = await self._asked(app, 2)
            service.stop()
            late = await call(app, "POST", CHAT, SAID)
            return [await task for task in tasks], late, (await call(app, "GET", "/health")).status

        limits = ServiceLimits(at_once=1, drain_s=60)
        (first, second), late, health = serve(use, agent_of(FakePolicies(pause_s=0.001)), limits=limits)
        assert first.status == 200
        assert [reply.json["error"]["code"] for reply in (second, late)] == ["stopping", "stopping"]
        assert health == 503

    def test_a_stop_does_not_wait_for_ever(self, serve):
        async def use(app, service):
            (task,) = await self._asked(app, 1)
            service.stop()
            return await task

        reply = serve(use, agent_of(FakePolicies(pause_s=3600)), limits=ServiceLimits(drain_s=0.02))
        assert reply.json["error"]["code"] == "stopping"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "status"),
    [(RunAborted("it is down"), "engine_unavailable", 503), (ValueError("a bug"), "internal_error", 500)],
)
def test_an_engine_that_fails_is_typed(serve, error, code, status, stream, caplog):
    class Broken(FakePolicies):
        def policy(self, decoding):
            raise error

    reply = serve(one("POST", CHAT, SAID | {"stream": stream}), agent_of(Broken()))
    assert (reply.events[-1] if stream else reply.json)["error"]["code"] == code
    assert reply.status == (200 if stream else status)
    assert "it is down" in caplog.text or "a bug" in caplog.text


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**70, 0.5, 1e308, 1e-320, "", "x",
    "\x00", "é\u202e\U0001f5fc", "x" * 5000, [], [None], {}, [[[[]]]],
    {"type": "text"}, {"include_usage": 1}, [{"type": "function"}], [{"role": "user", "content": "Who?"}],
    [{"role": "user", "content": [{"type": "text", "text": "Who?"}, {"type": "text"}]}], [{"role": 1, "content": "?"}],
    [{"role": "assistant", "content": "?"}], [{"role": "user"}], "model1", "up", "down", "unknown-name",
)  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    CHAT: SAID | {"model": "model1", "temperature": 1.0, "seed": 1, "stream": False},
    "/episodes": {"question": "Where?", "model": None, "temperature": 0.0},
    "/ratings": {"id": "unknown-name", "thumb": "up", "comment": "so"},
}
FIELDS = ("model", "messages", "stream", "stream_options", "temperature", "top_p", "seed", "n", "stop", "tools",
          "logprobs", "response_format", "question", "id", "thumb", "comment", "max_tokens", "x")  # fmt: skip
BYTES = (b"", b"{", b"NaN", b'"\xff"', b"\\ud800", b"[" * 3000, b"1e999", b"\x00", b'{"a":1}')


def nonsense(draw: random.Random) -> tuple[str, str, bytes]:
    """(method, path, body): a request with some of its fields, its bytes, its path or its method changed."""
    path = draw.choice(list(BODIES))
    body = BODIES[path] | {draw.choice(FIELDS): draw.choice(ODD) for _ in range(draw.randrange(4))}
    raw = json.dumps(body).encode()
    if draw.random() < 0.25:
        place = draw.randrange(len(raw))
        raw = raw[:place] + draw.choice(BYTES) + raw[place + draw.randrange(20) :]
    if draw.random() < 0.15:
        path = draw.choice(("/", "/health/", "/episodes/%00", "/episodes/" + "x" * 3000, "/v1", "//", path + "/é"))
    return draw.choice(("POST",) * 8 + ("GET", "PUT", "OPTIONS")), path, raw


def test_a_thousand_requests_of_nonsense_and_no_fault_of_ours(serve, caplog):
    draw = random.Random(0)
    requests = [nonsense(draw) for _ in range(1000)]

    async def use(app, service):
        return [await call(app, *request) for request in requests], service._turnstile.running

    replies, running = serve(use)
    assert running == 0 and not caplog.records
    statuses = Counter(reply.status for reply in replies)
    assert set(statuses) <= {200, 404, 405, 400}, statuses
    assert statuses[200] > 100 and statuses[400] > 100
    for request, reply in zip(requests, replies, strict=True):
        if reply.status != 200:
            assert set(reply.json["error"]) == {"message", "type", "param", "code"}, request
