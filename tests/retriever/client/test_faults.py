"""The fault table: whatever a server does wrong, a search ends within its time budget, typed, or in a retry that works.

Each fault is real, over sockets: once for ever (the error), once and then well (the retry), and at one of two
addresses (the fail-over).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from support.services.http_clients import http_retriever

from retriever import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverTimeout,
    RetrieverUnavailable,
    SearchRequest,
)

HIT = {"id": "7", "title": "T", "text": "x", "score": 1.5}
GOOD = json.dumps({"results": [[HIT]]}).encode()
MOST_BYTES = 100_000
LIMITS = {
    "connect_timeout": 0.3,
    "read_timeout": 0.4,
    "attempts": 2,
    "backoff": 0.02,
    "deadline": 2.5,
    "max_response_bytes": MOST_BYTES,
}
BUDGET_S = 30.0
"""Seconds that a busy machine keeps too, above the deadline."""


@dataclass(frozen=True)
class Fault:
    """What the server sends to every request, and how a search ends that gets nothing else."""

    error: type[RetrieverError]
    status: int = 200
    body: bytes = GOOD
    headers: str = ""
    length: int | None = None
    pause: float = 0.0


FAULTS = {
    "slow body": Fault(RetrieverTimeout, pause=0.1),
    "500": Fault(RetrieverUnavailable, status=500, body=b'{"error": "boom"}'),
    "429 with Retry-After": Fault(RetrieverUnavailable, status=429, body=b"", headers="Retry-After: 1\r\n"),
    "broken off": Fault(RetrieverUnavailable, length=len(GOOD) + 50),
    "truncated JSON": Fault(RetrieverBadResponse, body=GOOD[:-10]),
    "wrong shape": Fault(RetrieverBadResponse, body=b'{"results": [[{"document": "x"}]]}'),
    "another format": Fault(RetrieverBadResponse, body=b'{"result": [[]]}'),
    "wrong count of results": Fault(RetrieverBadResponse, body=b'{"results": [[], []]}'),
    "too large": Fault(RetrieverBadResponse, body=b" " * 50 * MOST_BYTES),
    "not UTF-8": Fault(RetrieverBadResponse, body=GOOD.replace(b"x", b"\xff")),
}


async def outcomes_of(urls: str, searches: int = 1):
    """Hits or the error of each search, one after the other, and the retries of all."""
    outcomes = []
    async with http_retriever(urls, **LIMITS) as client:
        for _ in range(searches):
            started = time.monotonic()
            try:
                outcomes.append(await client.search(SearchRequest("who?", 3)))
            except RetrieverError as error:
                outcomes.append(error)
            assert time.monotonic() - started < BUDGET_S
        return outcomes, client.stats.retries


@pytest.fixture
def play(scripted_server, http_reply):
    """A server that plays a fault for ever, or once and then well."""

    @contextlib.asynccontextmanager
    async def running(fault: Fault, *, once: bool = False) -> AsyncIterator[str]:
        bad = http_reply(fault.status, fault.body, fault.headers, fault.length, fault.pause)
        server = scripted_server(bad, http_reply(200, GOOD)) if once else scripted_server(bad)
        async with server.running():
            yield server.url

    return running


@pytest.mark.parametrize("name", FAULTS)
def test_a_lasting_fault_is_the_right_error(play, name):
    async def scenario():
        async with play(FAULTS[name]) as url:
            return await outcomes_of(url)

    [error], _ = asyncio.run(scenario())
    assert type(error) is FAULTS[name].error and len(str(error)) < 600, error


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.error.transient])
def test_a_passing_fault_is_survived(play, name):
    async def scenario():
        async with play(FAULTS[name], once=True) as url:
            return await outcomes_of(url)

    [hits], retries = asyncio.run(scenario())
    assert len(hits) == 1 and retries == 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_one_address_is_survived(play, scripted_server, http_reply, name):
    async def scenario():
        healthy = scripted_server(http_reply(200, GOOD))
        async with play(FAULTS[name]) as url, healthy.running():
            return await outcomes_of(f"{url},{healthy.url}", searches=2)

    outcomes, retries = asyncio.run(scenario())
    assert [len(hits) for hits in outcomes] == [1, 1] and retries == 1


@contextlib.contextmanager
def refusing():
    """A port that is taken and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def black_hole():
    """A port whose connections are never answered: its queue of unaccepted ones is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


@pytest.mark.parametrize(
    ("place", "kind", "said"),
    [(refusing, RetrieverUnavailable, "cannot connect"), (black_hole, RetrieverTimeout, "no connection")],
)
def test_a_port_where_nobody_answers(place, kind, said, scripted_server, http_reply):
    async def scenario(url: str):
        [lasting], _ = await outcomes_of(url)
        healthy = scripted_server(http_reply(200, GOOD))
        async with healthy.running():
            hits, retries = await outcomes_of(f"{url},{healthy.url}", searches=2)
            return lasting, [*map(len, hits), retries]

    with place() as url:
        error, found = asyncio.run(scenario(url))
    assert type(error) is kind and said in str(error) and found == [1, 1, 1]
