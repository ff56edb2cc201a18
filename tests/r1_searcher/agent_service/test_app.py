"""The service in process: answers, thoughts, streams, kept episodes, models side by side, engines that fail."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.episodes.asked_agents import CHAT, FOUND, SAID, FakePolicies, Reply, agent_of, call, one
from support.episodes.fakes import Turn, say

from foundation.errors import RunAborted
from r1_searcher.agent_service.store import EpisodeStore
from r1_searcher.inference.decoding import Decoding
from retriever.errors import RetrieverUnavailable

THOUGHTS = "Hm. <|begin_of_query|>tower<|end_of_query|>\nI see. </think> "


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
