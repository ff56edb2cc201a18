"""An OpenAI-compatible endpoint that breaks in every way below HTTP: typed, bounded in time and in requests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.fake_endpoint import Answer, chat, serve

from foundation.chat import MAX_ANSWER_BYTES, EndpointConfig, OpenAIEndpoint
from foundation.errors import BadResponse, InputError, OutsideFailure, TimedOut, Unavailable
from foundation.retry import RetryPolicy

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: 10000\r\n\r\n"
JSON, EVENTS = HEAD % b"application/json", HEAD % b"text/event-stream"
CHUNK = b'data: {"id": "1", "choices": [{"index": 0, "text": "ab", "finish_reason": null}]}\n\n'
TIMEOUT, PATIENCE = 0.4, 20.0
"""Seconds of an attempt: where it is to run out, and where another failure is to come first, on a busy machine too."""


@contextmanager
def sending(pieces: Sequence[bytes]) -> Iterator[str]:
    """A server that answers every connection with these bytes, a moment apart, and hangs up; gives its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)

        def answer(connection: socket.socket) -> None:
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    time.sleep(0.03)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def asked(url: str, *, streamed: bool, timeout: float) -> None:
    endpoint = OpenAIEndpoint(EndpointConfig(url, "m", timeout=timeout, retry=RetryPolicy(attempts=2, backoff=0.01)))
    try:
        if streamed:
            await endpoint.complete_until("prompt", ("never",), max_tokens=9)
        else:
            await endpoint.chat([{"role": "user", "content": "question"}])
    finally:
        await endpoint.close()


@pytest.mark.parametrize(
    ("pieces", "failure", "attempts"),
    [
        ([b"this is not HTTP"], Unavailable, 2),
        ([JSON, b'{"choices": '], Unavailable, 2),
        ([JSON, *[b" "] * 100], TimedOut, 2),  # byte by byte, so that no single read takes long
        ([EVENTS, CHUNK], Unavailable, 2),
        ([EVENTS, *[CHUNK] * 100], TimedOut, 2),
        ([EVENTS, b"data: {broken\n\n"], BadResponse, 1),
        ([EVENTS, b'data: {"error": {"message": "out of memory"}}\n\n'], Unavailable, 2),
    ],
)
def test_failures_are_typed_and_bounded(pieces, failure, attempts):
    timeout = TIMEOUT if failure is TimedOut else PATIENCE
    started = time.monotonic()
    with sending(pieces) as url, pytest.raises(OutsideFailure) as caught:
        asyncio.run(asked(url, streamed=pieces[0] == EVENTS, timeout=timeout))
    assert (type(caught.value), caught.value.attempts) == (failure, attempts)
    assert time.monotonic() - started < 10
    assert url in str(caught.value) and ("gave up after attempt 2 of 2" in str(caught.value)) is (attempts == 2)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/openai/v1/", "https://host/openai/v1"),
    ],
)
def test_addresses(given, used):
    assert EndpointConfig(given, "m").base_urls == (used,)


def test_what_cannot_be_an_endpoint_is_refused():
    for url in ("host:8000", "ftp://host", "http://", "", "http://a,", "http://[::1", "http://host/v1?key=1"):
        with pytest.raises(InputError, match="http://host:port"):
            EndpointConfig(url, "m")
    assert "secret" not in EndpointConfig("http://user:secret@host:1", "m").shown


def chatted(endpoint, **settings):
    """The reply to a chat, with the client closed."""

    async def scenario():
        client = OpenAIEndpoint(EndpointConfig(endpoint.url, "m", retry=RetryPolicy(attempts=2, backoff=0.01)))
        try:
            return await client.chat([{"role": "user", "content": "question"}], **settings)
        finally:
            await client.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize(("key", "sent"), [(None, ""), (" ", ""), ("sk-1", "Bearer sk-1")])
def test_the_key_comes_from_the_environment_and_without_one_none_is_sent(monkeypatch, key, sent):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with serve(lambda request, seen: chat("yes")) as endpoint:
        assert chatted(endpoint).text == "yes" and endpoint.keys == [sent]


def test_a_busy_endpoint_is_asked_again_and_the_requests_are_counted():
    with serve(lambda request, seen: chat("yes") if seen else Answer(status=409)) as endpoint:
        assert chatted(endpoint).attempts == 2
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    busy = Answer({"error": {"message": "later"}}, 503, headers={"Retry-After": later})
    with serve(lambda request, seen: busy) as endpoint, pytest.raises(Unavailable, match="later.*deadline") as caught:
        chatted(endpoint)
    assert (caught.value.attempts, len(endpoint.requests), caught.value.status) == (1, 1, 503)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (chat("x" * MAX_ANSWER_BYTES), "more than"),
        (Answer("{}", headers={"content-encoding": "gzip"}), "compressed"),
        (chat(None), "a message with text"),
    ],
)
def test_an_answer_that_cannot_be_used(answer, said):
    with serve(lambda request, seen: answer) as endpoint, pytest.raises(BadResponse, match=said) as caught:
        chatted(endpoint)
    assert len(endpoint.requests) == 1 and len(str(caught.value)) < 500


def test_one_client_in_two_event_loops():
    with serve(lambda request, seen: chat("yes")) as endpoint:
        client = OpenAIEndpoint(EndpointConfig(endpoint.url, "m"))
        for _ in range(2):
            assert asyncio.run(client.chat([{"role": "user", "content": "question"}])).text == "yes"


def test_whoever_answers_listens():
    """A server that knows no list of models, refuses or fails is an answer; no connection is none."""

    async def look(url):
        await OpenAIEndpoint(EndpointConfig(url, "m")).check_listening()

    with serve(lambda request, seen: chat("yes")) as endpoint:
        asyncio.run(look(endpoint.url))
    for status in (b"401 Unauthorized", b"503 Busy"):
        with sending([b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % status]) as url:
            asyncio.run(look(url))
    with pytest.raises(InputError, match="does not answer"):
        asyncio.run(look("http://127.0.0.1:9"))
