"""Requests that the service refuses, each in OpenAI's form, and hundreds of requests of nonsense."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from support.episodes.asked_agents import CHAT, SAID, call, load_of, one


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


def test_hundreds_of_requests_of_nonsense_and_no_fault_of_ours(serve, caplog):
    draw = random.Random(0)
    requests = [nonsense(draw) for _ in range(400)]

    async def use(app, service):
        return [await call(app, *request) for request in requests], load_of(service)

    replies, load = serve(use)
    assert load == (0, 0) and not caplog.records
    statuses = Counter(reply.status for reply in replies)
    assert set(statuses) <= {200, 404, 405, 400}, statuses
    assert statuses[200] > 40 and statuses[400] > 40
    for request, reply in zip(requests, replies, strict=True):
        if reply.status != 200:
            assert set(reply.json["error"]) == {"message", "type", "param", "code"}, request
