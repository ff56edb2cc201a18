"""What is kept of a web search: whose it is, how long, how much, and what comes of equal searches at once."""

from __future__ import annotations

import asyncio

from support.services.fake_web import KEY, ROWS, FakeServices, serve_app
from support.services.web_searches import FAST, QUICK, SITE, fault, searched

from retriever import (
    RetrieverRejected,
    SearchRequest,
)
from retriever.web.disk_cache import DiskCache, cache_key
from retriever.web.engines import WEB_ENGINES
from retriever.web.search import JsonService, WebRetriever


def test_a_cached_answer_costs_nothing(tmp_path):
    now = [1000.0]
    services, cache = FakeServices(ROWS), DiskCache(tmp_path, max_age=100, clock=lambda: now[0])
    (first, again), _ = searched(services, "serper", "who?", " who? ", cache=cache)
    assert first == again and len(services.seen) == 1
    (more,), _ = searched(services, "serper", "who?", top_k=6, cache=cache)
    (elsewhere,), _ = searched(services, "serper", "who?", site=SITE, cache=cache)
    assert more == elsewhere == first and len(services.seen) == 3
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_old_answers_are_asked_for_again_and_deleted(tmp_path):
    async def scenario():
        now = [1000.0]
        cache = DiskCache(tmp_path, max_age=100, clock=lambda: now[0])
        await cache.put("a", b"1")
        now[0] = 1099.9
        assert await cache.get("a") == b"1" and await cache.get("b") is None
        now[0] = 1100.0
        assert await cache.get("a") is None
        cache.close()
        await cache.put("b", b"2")
        cache.close()
        patient = DiskCache(tmp_path, max_age=1e6, clock=lambda: now[0])
        assert await patient.get("a") is None and await patient.get("b") == b"2"
        now[0] = 0.0  # the clock was ahead when it was kept: nobody knows how old it is
        assert await patient.get("b") is None
        patient.close()

    asyncio.run(scenario())
    assert cache_key(("ab", "c")) != cache_key(("a", "bc"))


def test_a_cache_is_its_users_and_its_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("retriever.web.disk_cache.MOST_BYTES", 1000)
    monkeypatch.setattr("retriever.web.disk_cache.PUTS_PER_LOOK", 4)

    async def scenario():
        times = iter(range(1000, 9000))
        cache = DiskCache(tmp_path / "new", clock=lambda: next(times))
        for number in range(40):
            await cache.put(str(number), bytes(100))
        found = [await cache.get(str(number)) is not None for number in range(40)]
        cache.close()
        return found

    found = asyncio.run(scenario())
    assert 5 <= sum(found) <= 14 and found[-1] and not found[0]
    modes = {path.name: path.stat().st_mode & 0o077 for path in [tmp_path / "new", *(tmp_path / "new").iterdir()]}
    assert set(modes.values()) == {0}, modes


def test_without_a_usable_cache_searches_go_on(tmp_path, caplog):
    (tmp_path / "web.sqlite3").write_bytes(b"this is no database" * 100)
    services = FakeServices(ROWS)
    (first, again), _ = searched(services, "serper", "who?", "who?", cache=DiskCache(tmp_path))
    assert first == again and len(services.seen) == 2
    assert [record.levelname for record in caplog.records if "no cache" in record.getMessage()] == ["WARNING"]


def test_failures_are_not_cached(tmp_path):
    services = FakeServices(ROWS, faults=[fault(401)])
    (failed, found), _ = searched(services, "serper", "who?", "who?", cache=DiskCache(tmp_path))
    assert isinstance(failed, RetrieverRejected) and len(found) == 2


def test_equal_searches_at_once_are_one_and_each_gets_its_outcome():
    async def scenario(url):
        retriever = WebRetriever(JsonService(WEB_ENGINES["serper"], url=f"{url}/search"), rate=QUICK, retry=FAST)
        impatient = asyncio.create_task(retriever.search(SearchRequest("same", 5)))
        others = [retriever.search(SearchRequest(query, 5)) for query in ["same"] * 15 + ["other"]]
        waiting = asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)
        impatient.cancel()
        outcomes = await waiting
        await retriever.close()
        return outcomes

    services = FakeServices(ROWS)
    with serve_app(services.app()) as url:
        outcomes = asyncio.run(scenario(url))
        assert sorted(seen.body["q"] for seen in services.seen) == ["other", "same"]
        assert all(outcome == outcomes[0] and len(outcome) == 2 for outcome in outcomes)
        services.faults = [fault(403), fault(403)]
        assert {type(outcome) for outcome in asyncio.run(scenario(url))} == {RetrieverRejected}
