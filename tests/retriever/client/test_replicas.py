"""Several addresses: balancing, fail-over, circuits; and the token."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from support.services.http_clients import http_retriever

from foundation.http import Reply
from foundation.process import bind
from retriever import RetrieverBadResponse, RetrieverRejected, RetrieverUnavailable, SearchRequest
from retriever.client.addresses import addresses_of
from retriever.client.replicas import BreakerPolicy, Replica, ReplicaPool

GOOD = json.dumps({"results": [[{"id": "7", "title": "T", "text": "x", "score": 1.5}]]}).encode()
FAST = {"connect_timeout": 0.5, "read_timeout": 0.5, "attempts": 4, "backoff": 0.02, "deadline": 3.0}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock) -> ReplicaPool:
    replicas = [Replica(name) for name in "abc"]
    return ReplicaPool(replicas, BreakerPolicy(failures=2, cooldown=1.0, max_cooldown=3.0), clock)


def test_equals_take_turns(pool):
    assert sorted(pool.pick().url for _ in range(6)) == ["a", "a", "b", "b", "c", "c"]


def test_the_least_busy_is_asked(pool):
    a, b, c = pool.replicas
    a.outstanding, b.outstanding, c.outstanding = 2, 1, 2
    assert {pool.pick().url for _ in range(6)} == {"b"}


def test_an_avoided_replica_is_the_last_resort(pool):
    a, b, c = pool.replicas
    assert {pool.pick([a, b]).url for _ in range(6)} == {"c"}
    assert not pool.has_other([a, b, c]) and pool.pick([a, b, c]) in pool.replicas


def test_failures_in_a_row_open_a_circuit(pool, clock):
    a, b, c = pool.replicas
    b.outstanding = c.outstanding = 1
    pool.failed(a)
    pool.succeeded(a)
    pool.failed(a)
    assert pool.pick() is a
    pool.failed(a)
    assert {pool.pick().url for _ in range(6)} == {"b", "c"}
    clock.now += 1.0
    assert pool.pick() is a
    a.outstanding = 1  # the one request that tries it again
    assert {pool.pick().url for _ in range(6)} == {"b", "c"}
    a.outstanding = 0
    pool.succeeded(a)
    assert pool.pick() is a


def test_among_equals_the_one_without_failures(pool):
    pool.failed(pool.replicas[1])
    assert {pool.pick().url for _ in range(6)} == {"a", "c"}


def test_a_rest_doubles_up_to_its_cap(pool, clock):
    a = pool.replicas[0]
    for _ in range(50):
        pool.failed(a)  # all at once: the circuit opens once
    rests = []
    for _ in range(4):
        rests.append(a.open_until - clock.now)
        clock.now = a.open_until
        pool.failed(a)
    assert rests == [1.0, 2.0, 3.0, 3.0]


def test_retry_after_is_a_rest(pool, clock):
    pool.failed(pool.replicas[0], retry_after=5.0)
    clock.now += 4.9
    assert {pool.pick().url for _ in range(6)} == {"b", "c"}


def test_where_all_circuits_are_open_the_first_opened_is_asked(pool, clock):
    for replica in pool.replicas:
        pool.failed(replica)
        pool.failed(replica)
        clock.now += 0.1
    assert {pool.pick().url for _ in range(6)} == {"a"}


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"cooldown": -1.0}, {"cooldown": 2.0, "max_cooldown": 1.0}])
def test_wrong_policies(wrong):
    with pytest.raises(ValueError, match="failures >= 1"):
        BreakerPolicy(**wrong)


def search(urls: str, times: int = 1, **settings):
    """Some searches, one after the other; gives hits or errors, seconds, retries."""

    async def scenario():
        async with http_retriever(urls, **(FAST | settings)) as client:
            started = time.monotonic()
            outcomes = await asyncio.gather(
                *(client.search(SearchRequest("q", 1)) for _ in range(times)), return_exceptions=True
            )
            return outcomes, time.monotonic() - started, client.stats.retries

    return asyncio.run(scenario())


def test_a_dead_address_costs_no_search_and_no_wait(served_url):
    with bind("127.0.0.1", 0) as dead:
        urls = f"http://127.0.0.1:{dead.getsockname()[1]}, {served_url}/"
        # Time-outs that a busy machine keeps, and a back-off that would be seen: it is at least half of what is set.
        patient = {"connect_timeout": 30.0, "read_timeout": 30.0, "deadline": 200.0}
        outcomes, seconds, retries = search(urls, times=200, backoff=100.0, max_backoff=100.0, **patient)
    assert not [each for each in outcomes if isinstance(each, Exception)]
    assert seconds < 40 and 1 <= retries <= 100


@pytest.mark.parametrize("fault", [500, 429, 503, "garbage", "hang up"])
def test_a_faulty_address_is_left_for_the_other(scripted_server, http_reply, served_url, fault):
    async def hang_up(writer) -> None:
        writer.close()

    steps = {"garbage": http_reply(200, b"?"), "hang up": hang_up}
    step = steps.get(fault) or http_reply(fault, b"busy", "Retry-After: 60\r\n")

    async def scenario():
        server = scripted_server(step)
        async with server.running(), http_retriever(f"{server.url},{served_url}", **FAST) as client:
            for _ in range(10):
                await client.search(SearchRequest("paris", 1))
            return len(server.bodies), client.stats

    requests, stats = asyncio.run(scenario())
    assert requests == stats.retries and 1 <= requests <= 3 and not stats.failures


def test_a_refused_request_is_refused_everywhere(scripted_server, http_reply):
    async def scenario():
        first, second = scripted_server(http_reply(400, b"{}")), scripted_server(http_reply(400, b"{}"))
        async with first.running(), second.running(), http_retriever(f"{first.url},{second.url}", **FAST) as client:
            with pytest.raises(RetrieverRejected):
                await client.search(SearchRequest("q", 1))
            return len(first.bodies) + len(second.bodies)

    assert asyncio.run(scenario()) == 1


def test_garbage_from_every_address_is_a_bad_response(scripted_server, http_reply):
    async def scenario():
        first, second = scripted_server(http_reply(200, b"?")), scripted_server(http_reply(200, b"!"))
        async with first.running(), second.running(), http_retriever(f"{first.url},{second.url}", **FAST) as client:
            with pytest.raises(RetrieverBadResponse):
                await client.search(SearchRequest("q", 1))
            return len(first.bodies), len(second.bodies)

    assert asyncio.run(scenario()) == (1, 1)


def test_attempts_bound_all_addresses_together(scripted_server, http_reply):
    async def scenario():
        servers = [scripted_server(http_reply(500, b"{}")) for _ in range(3)]
        async with servers[0].running(), servers[1].running(), servers[2].running():
            async with http_retriever(",".join(each.url for each in servers), **FAST) as client:
                with pytest.raises(RetrieverUnavailable, match="attempt 4 of 4"):
                    await client.search(SearchRequest("q", 1))
            return sorted(len(each.bodies) for each in servers)

    assert asyncio.run(scenario()) == [1, 1, 2]


class CountingTransport:
    """Answers after a while; counts what is under way at each address."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def send(self, method, url, body, limit_s) -> Reply:
        self.now[url] = self.now.get(url, 0) + 1
        self.most[url] = max(self.most.get(url, 0), self.now[url])
        await asyncio.sleep(0.03 if "slow" in url else 0.001)
        self.now[url] -= 1
        return Reply(200, GOOD)

    async def close(self) -> None:
        return None


def test_a_slow_address_gets_less():
    async def scenario():
        sent: list[str] = []
        transport = CountingTransport()
        send = transport.send

        async def counted(method, url, body, limit_s):
            sent.append(url)
            return await send(method, url, body, limit_s)

        transport.send = counted
        urls = "http://slow,http://fast"
        async with http_retriever(urls, transport=transport, max_connections=8) as client:
            await asyncio.gather(*(client.search(SearchRequest("q", 1)) for _ in range(300)))
        return sent, transport.most

    sent, most = asyncio.run(scenario())
    assert max(most.values()) <= 5 and sent.count("http://fast/search") > 2 * sent.count("http://slow/search")


def test_health_of_several(served_url, scripted_server, http_reply, caplog):
    async def scenario():
        other = scripted_server(http_reply(200, b'{"status": "ready", "index": "other", "passages": 3}'))
        with bind("127.0.0.1", 0) as dead:
            down = f"http://127.0.0.1:{dead.getsockname()[1]}"
            async with other.running(), http_retriever(f"{down},{served_url}", **FAST) as client:
                first = await client.health()
                assert "different" not in caplog.text
            async with other.running(), http_retriever(f"{served_url},{other.url}", **FAST) as client:
                second = await client.health()
            async with http_retriever(f"{down},{down}/", **FAST) as client:
                with pytest.raises(RetrieverUnavailable):
                    await client.health()
        return first, second

    first, second = asyncio.run(scenario())
    assert first == second and first.index == "bm25" and "different indexes" in caplog.text


def test_addresses():
    found = addresses_of("http://a:1/, https://me:pw@b/base/search,http://a:1", "/search")
    assert [(each.search, each.health, each.has_credentials) for each in found] == [
        ("http://a:1/search", "http://a:1/health", False),
        ("https://me:pw@b/base/search", "https://me:pw@b/base/health", True),
    ]


@pytest.mark.parametrize(
    "urls", ["", ",", "http://a,", "http://a,ftp://b", "http://a;http://b", "http://a:1,http://b:x"]
)
def test_one_wrong_address_is_the_callers_bug(urls):
    with pytest.raises(ValueError, match="http://host:port"):
        http_retriever(urls)


@pytest.mark.parametrize(
    ("variable", "argument", "user", "sent"),
    [
        (None, None, "", None),
        ("from-env", None, "", "Bearer from-env"),
        ("from-env", "given", "", "Bearer given"),
        ("from-env", None, "me:pw@", "Basic bWU6cHc="),
    ],
)
def test_what_authorizes(monkeypatch, scripted_server, http_reply, variable, argument, user, sent):
    monkeypatch.delenv("RETRIEVER_TOKEN", raising=False)
    if variable:
        monkeypatch.setenv("RETRIEVER_TOKEN", variable)

    async def scenario():
        async with scripted_server(http_reply(200, GOOD)).running() as server:
            url = server.url.replace("//", f"//{user}")
            async with http_retriever(url, token=argument) as client:
                await client.search(SearchRequest("q", 1))
            return [line for line in server.headers[0].splitlines() if line.startswith("Authorization")]

    assert asyncio.run(scenario()) == ([f"Authorization: {sent}"] if sent else [])


def test_a_token_beside_a_user_name():
    with pytest.raises(ValueError, match="not both"):
        http_retriever("http://me:pw@x", token="t")
