"""An OpenAI-compatible endpoint that breaks in every way below HTTP: typed, bounded in time and in requests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from foundation.errors import InputError
from foundation.retry import RetryPolicy
from r1_searcher.openai_endpoint import EndpointConfig, EndpointError, Failure, OpenAIEndpoint

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
        ([b"this is not HTTP"], Failure.UNREACHABLE, 2),
        ([JSON, b'{"choices": '], Failure.UNREACHABLE, 2),
        ([JSON, *[b" "] * 100], Failure.TIMEOUT, 2),  # byte by byte, so that no single read takes long
        ([EVENTS, CHUNK], Failure.UNREACHABLE, 2),
        ([EVENTS, *[CHUNK] * 100], Failure.TIMEOUT, 2),
        ([EVENTS, b"data: {broken\n\n"], Failure.BAD_RESPONSE, 1),
        ([EVENTS, b'data: {"error": {"message": "out of memory"}}\n\n'], Failure.BUSY, 2),
    ],
)
def test_failures_are_typed_and_bounded(pieces, failure, attempts):
    timeout = TIMEOUT if failure is Failure.TIMEOUT else PATIENCE
    started = time.monotonic()
    with sending(pieces) as url, pytest.raises(EndpointError) as caught:
        asyncio.run(asked(url, streamed=pieces[0] == EVENTS, timeout=timeout))
    assert (caught.value.failure, caught.value.attempts) == (failure, attempts)
    assert time.monotonic() - started < 10
    assert url in str(caught.value) and "gave up after" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/openai/v1/", "https://host/openai/v1"),
    ],
)
def test_addresses(given, used):
    assert EndpointConfig(given, "m").base_url == used


def test_what_cannot_be_an_endpoint_is_refused():
    for url in ("host:8000", "ftp://host", "http://"):
        with pytest.raises(InputError, match="http://host:port"):
            EndpointConfig(url, "m")
    assert "secret" not in EndpointConfig("http://user:secret@host:1", "m").shown
