"""Faults over real sockets: each ends in time, in the right typed error or a success."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.services.http_clients import http_retriever

from foundation.http import Reply
from foundation.process import bind
from retriever import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
    SearchRequest,
)
from retriever.index.corpus import corpus_hash
from retriever.interface import Health

HIT = {"id": "7", "title": "T", "text": "x", "score": 1.5}
GOOD = json.dumps({"results": [[HIT]]}).encode()
FAST = {"connect_timeout": 20.0, "read_timeout": 20.0, "attempts": 3, "backoff": 0.02, "deadline": 60.0}
"""Patient, so that a busy machine keeps them, and soon asking again."""
IMPATIENT = FAST | {"read_timeout": 0.3}
LONG = 30.0
"""Seconds that no search takes which ends as it should, on a busy machine too; the other way takes longer."""


def run_against(server, **settings):
    """One search; gives (hits or the error, the client's stats, requests received)."""

    async def scenario():
        async with server.running(), http_retriever(server.url, **(FAST | settings)) as client:
            started = time.monotonic()
            try:
                outcome = await client.search(SearchRequest("who?", 3))
            except RetrieverError as error:
                outcome = error
            assert time.monotonic() - started < LONG
            return outcome, client.stats.snapshot(), len(server.bodies)

    return asyncio.run(scenario())


async def hang_up(writer) -> None:
    writer.close()


async def not_http(writer) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")


async def silence(writer) -> None:
    await asyncio.sleep(600.0)


def test_success_on_the_first_attempt(scripted_server, http_reply):
    hits, stats, requests = run_against(scripted_server(http_reply(200, GOOD)))
    assert [(hit.passage.id, hit.score) for hit in hits] == [("7", 1.5)]
    assert (stats.calls, stats.retries, dict(stats.failures), requests) == (1, 0, {}, 1)
    assert stats.seconds > 0


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408, 409, 425])
def test_a_passing_fault_is_retried(scripted_server, http_reply, status):
    hits, stats, requests = run_against(scripted_server(http_reply(status, b"busy"), http_reply(200, GOOD)))
    assert len(hits) == 1 and (stats.retries, requests) == (1, 2)


@pytest.mark.parametrize("first", [hang_up, silence], ids=["hang up", "silence"])
def test_a_lost_connection_is_retried(scripted_server, http_reply, first):
    hits, stats, _ = run_against(scripted_server(first, http_reply(200, GOOD)), **IMPATIENT)
    assert len(hits) == 1 and stats.retries == 1


def test_connection_refused():
    async def scenario(port: int):
        async with http_retriever(f"http://name:secret@127.0.0.1:{port}", **FAST) as client:
            with pytest.raises(RetrieverUnavailable):
                await client.health(timeout=1)
            with pytest.raises(RetrieverUnavailable) as caught:
                await client.search(SearchRequest("q", 1))
            return str(caught.value), client.stats

    with bind("127.0.0.1", 0) as taken_but_not_listening:
        port = taken_but_not_listening.getsockname()[1]
        message, stats = asyncio.run(scenario(port))
    assert f"http://127.0.0.1:{port}/search" in message and "secret" not in message and "3 of 3" in message
    assert stats.failures == {"unavailable": 1} and stats.retries == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (GOOD[:20], "not JSON"),
        (b"<html>hello</html>", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"answers": []}', "'results'"),
        (b'{"results": {}}', "'results'"),
        (b'{"results": []}', "expected 1 results"),
        (b'{"results": [[], []]}', "expected 1 results"),
        (b'{"results": [7]}', "list of hits"),
        (b'{"results": [["line"]]}', "expected a hit"),
        (b'{"results": [[{"id": 7}]]}', "strings"),
        (json.dumps({"results": [[HIT] * 4]}).encode(), "at most 3"),
        (json.dumps({"results": [[HIT | {"score": "1"}]]}).encode(), "finite"),
        (json.dumps({"results": [[HIT | {"score": float("nan")}]]}).encode(), "finite"),
        (json.dumps({"results": [[HIT | {"score": 10**400}]]}).encode(), "finite"),
    ],
)
def test_an_unusable_answer_is_a_bad_response_at_once(scripted_server, http_reply, body, said):
    error, stats, requests = run_against(scripted_server(http_reply(200, body)))
    assert isinstance(error, RetrieverBadResponse) and said in str(error) and requests == 1
    assert "/search" in str(error) and len(str(error)) < 500 and stats.failures == {"bad_response": 1}


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RetrieverRejected), (404, RetrieverRejected), (413, RetrieverRejected)]
)
def test_a_refused_request_is_not_retried(scripted_server, http_reply, status, kind):
    error, _, requests = run_against(scripted_server(http_reply(status, b'{"error": "no such thing"}')))
    assert isinstance(error, kind) and (error.status, error.reason, requests) == (status, "no such thing", 1)


def test_a_redirect_is_not_followed(scripted_server, http_reply):
    error, _, requests = run_against(scripted_server(http_reply(302, b"", "Location: /elsewhere\r\n")))
    assert isinstance(error, RetrieverBadResponse) and "302" in str(error) and requests == 1


@pytest.mark.parametrize(
    ("step", "kind"),
    [("truncated", RetrieverUnavailable), ("not_http", RetrieverBadResponse), ("500", RetrieverUnavailable)],
)
def test_a_lasting_fault_ends_after_the_attempts(scripted_server, http_reply, step, kind):
    steps = {
        "truncated": http_reply(200, GOOD, length=len(GOOD) + 50),
        "not_http": not_http,
        "500": http_reply(500, b'{"error": "boom"}'),
    }
    error, stats, requests = run_against(scripted_server(steps[step]))
    assert type(error) is kind and requests == (1 if step == "not_http" else 3)
    assert stats.calls == 1 and sum(stats.failures.values()) == 1
    assert step != "500" or "boom" in str(error)


def test_silence_times_out_on_every_attempt(scripted_server):
    error, stats, requests = run_against(scripted_server(silence), **IMPATIENT)
    assert isinstance(error, RetrieverTimeout) and requests == 3 and stats.failures == {"timeout": 1}


def test_a_dripping_body_cannot_outlast_the_deadline(scripted_server, http_reply):
    dripping = http_reply(200, GOOD, pause=0.1)
    limits = {"connect_timeout": 9.0, "read_timeout": 9.0, "attempts": 9, "deadline": 0.6}
    error, _, _ = run_against(scripted_server(dripping), **limits)
    assert isinstance(error, RetrieverTimeout) and "deadline" in str(error)


@pytest.mark.parametrize("zipped", [False, True])
def test_an_oversized_answer_is_broken_off(scripted_server, http_reply, zipped):
    body = b" " * 3_000_000
    step = http_reply(200, gzip.compress(body), "Content-Encoding: gzip\r\n") if zipped else http_reply(200, body)
    error, _, requests = run_against(scripted_server(step), max_response_bytes=1_000_000)
    assert isinstance(error, RetrieverBadResponse) and "max_response_bytes" in str(error) and requests == 1


def test_retry_after_is_waited_for(scripted_server, http_reply):
    async def scenario():
        busy = http_reply(429, b"", "Retry-After: 1\r\n")
        server = scripted_server(busy, http_reply(200, GOOD))
        async with server.running(), http_retriever(server.url, **FAST) as client:
            started = time.monotonic()
            hits = await client.search(SearchRequest("q", 1))
            return len(hits), time.monotonic() - started

    found, seconds = asyncio.run(scenario())
    assert found == 1 and 1.0 <= seconds < LONG


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_past_the_deadline_gives_up_at_once(scripted_server, http_reply, form):
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    header = f"Retry-After: {3600 if form == 'seconds' else later}\r\n"
    error, _, requests = run_against(scripted_server(http_reply(503, b"", header)))
    assert isinstance(error, RetrieverUnavailable) and "deadline" in str(error) and requests == 1


def test_an_unreadable_retry_after_is_ignored(scripted_server, http_reply):
    busy = http_reply(429, b"", "Retry-After: soon\r\n")
    hits, _, _ = run_against(scripted_server(busy, http_reply(200, GOOD)))
    assert len(hits) == 1


class CountingTransport:
    """Scripted transport: how many exchanges are under way at once?"""

    def __init__(self) -> None:
        self.now = self.most = self.closed = 0

    async def send(self, method, url, body, limit_s) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return Reply(200, GOOD)

    async def close(self) -> None:
        self.closed += 1


def test_thousands_of_searches_wait_their_turn():
    async def scenario():
        transport = CountingTransport()
        # Far more work than fits into one deadline: waiting for a turn must not count against it.
        async with http_retriever("http://x", transport=transport, max_connections=20, deadline=0.2) as client:
            await asyncio.gather(*(client.search(SearchRequest("q", 1)) for _ in range(2000)))
        return transport, client.stats

    transport, stats = asyncio.run(scenario())
    assert transport.most == 20 and transport.closed == 1
    assert stats.calls == 2000 and not stats.failures


def test_hundreds_of_searches_over_real_connections(served_url):
    async def scenario():
        async with http_retriever(served_url, max_connections=64) as client:
            results = await asyncio.gather(*(client.search(SearchRequest("spirit", 1)) for _ in range(300)))
            return len(results), client.stats

    count, stats = asyncio.run(scenario())
    assert count == 300 and stats.retries == 0 and not stats.failures


def test_a_cancelled_search_frees_its_turn(scripted_server, http_reply):
    async def scenario():
        server = scripted_server(silence, http_reply(200, GOOD))
        async with server.running(), http_retriever(server.url, **FAST, max_connections=1) as client:
            task = asyncio.create_task(client.search(SearchRequest("q", 1)))
            await asyncio.sleep(0.1)
            task.cancel()
            return len(await client.search(SearchRequest("q", 1))), client.stats.calls

    assert asyncio.run(scenario()) == (1, 1)


def test_health(served_url, scripted_server, http_reply, passages):
    async def scenario():
        async with http_retriever(served_url) as client:
            health = await client.health()
        other = scripted_server(http_reply(200, b"{}"))
        async with other.running(), http_retriever(other.url) as client:
            with pytest.raises(RetrieverBadResponse, match="is this a retriever server"):
                await client.health()
        return health

    health = asyncio.run(scenario())
    assert health == Health("ready", "bm25", len(passages), corpus_hash(passages))


def test_headers_and_credentials_are_sent(scripted_server, http_reply):
    async def scenario():
        async with scripted_server(http_reply(200, GOOD)).running() as server:
            url = server.url.replace("//", "//me:secret@") + "/base/"
            client = http_retriever(url, headers={"X-Tenant": "a"})
            await client.search(SearchRequest("q", 1))
            await client.close()
            return server.headers[0]

    head = asyncio.run(scenario())
    assert head.startswith("POST /base/search ") and "X-Tenant: a" in head and "Authorization: Basic" in head


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://x", "http://", "http://x/?key=1", "", "http://x:abc", "http://x:0"]
)
def test_a_wrong_url_is_the_callers_bug(url):
    with pytest.raises(ValueError, match="http://host:port"):
        http_retriever(url)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"deadline": 0}, {"max_connections": 0}, {"read_timeout": -1}])
def test_wrong_limits_are_the_callers_bug(wrong):
    with pytest.raises(ValueError, match="above 0|attempts >= 1"):
        http_retriever("http://x", **wrong)
