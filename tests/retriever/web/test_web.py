"""Web search services: their wire formats, faults, keys, cache and rate limit, against local fakes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback

import pytest
from flask import Flask, Response
from hypothesis import given
from hypothesis import strategies as st
from support.services.fake_web import KEY, KEY_VARIABLES, PATHS, ROWS, FakeServices, serve_app

from foundation.retry import RetryPolicy
from retriever import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
    SearchRequest,
)
from retriever.web.disk_cache import DiskCache, cache_key
from retriever.web.duckduckgo import DuckDuckGo
from retriever.web.engines import WEB_ENGINES
from retriever.web.rate_limit import Rate, RateLimits
from retriever.web.search import JsonService, WebRetriever

FAST = RetryPolicy(attempts=3, backoff=0.02, deadline=20.0)
QUICK = Rate(10_000, 10_000)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in KEY_VARIABLES:
        monkeypatch.setenv(name, KEY)


def searched(services, engine, *queries, top_k=5, site="", cache=None):
    """What each query brings: hits or the error."""

    async def scenario(url):
        service = JsonService(WEB_ENGINES[engine], url=url + PATHS[engine], read_timeout=10.0)
        retriever = WebRetriever(service, site=site, rate=QUICK, retry=FAST, cache=cache)
        outcomes = []
        for query in queries:
            try:
                outcomes.append(await retriever.search(SearchRequest(query, top_k)))
            except RetrieverError as error:
                outcomes.append(error)
        await retriever.close()
        return outcomes, retriever.stats

    with serve_app(services.app()) as url:
        return asyncio.run(scenario(url))


# What each service is sent for the query `C++ & "50%" = é?`, at most 5 results, from en.wikipedia.org.
QUERY, SITE = 'C++ & "50%" = é?', "en.wikipedia.org"
SENT = {
    "serper": ("POST", "/search", {}, {"q": f"{QUERY} site:{SITE}", "num": 5}),
    "serpapi": (
        "GET",
        "/search.json",
        {"engine": "google", "q": f"{QUERY} site:{SITE}", "num": "5", "api_key": KEY},
        None,
    ),
    "tavily": (
        "POST",
        "/tavily",
        {},
        {"query": QUERY, "max_results": 5, "search_depth": "basic", "include_domains": [SITE]},
    ),
    "wikipedia": (
        "GET",
        "/w/api.php",
        {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "generator": "search",
            "gsrsearch": QUERY,
            "gsrlimit": "5",
            "prop": "extracts|info",
            "inprop": "url",
            "exintro": "1",
            "explaintext": "1",
            "exlimit": "max",
        },
        None,
    ),
}
KEY_HEADERS = {"serper": ("X-Api-Key", KEY), "tavily": ("Authorization", f"Bearer {KEY}")}


def test_every_service_has_its_wire_format_here():
    assert set(SENT) == set(PATHS) == set(WEB_ENGINES)


@pytest.mark.parametrize("engine", WEB_ENGINES)
def test_the_wire_format(engine):
    services = FakeServices(ROWS)
    ((hits,), _) = searched(services, engine, f"  {QUERY}\n", site=SITE)
    (seen,) = services.seen
    assert (seen.method, seen.path, seen.parameters, seen.body) == SENT[engine]
    assert seen.headers["User-Agent"].startswith("r1-searcher")
    if engine in KEY_HEADERS:
        name, value = KEY_HEADERS[engine]
        assert seen.headers[name] == value
    else:
        assert KEY not in str(seen.headers)
    found = [(hit.passage.id, hit.passage.title, hit.passage.text, hit.score) for hit in hits]
    assert found == [
        ("https://a.example/1", "One", "first text of one", 1.0),
        ("https://a.example/2", "Two", "second", 0.5),
    ]


@pytest.mark.parametrize("engine", WEB_ENGINES)
def test_nothing_found_and_nothing_asked(engine):
    services = FakeServices()
    outcomes, _ = searched(services, engine, "gibberish", " \n ")
    assert outcomes == [(), ()] and len(services.seen) == 1


@pytest.mark.parametrize("engine", WEB_ENGINES)
def test_at_most_top_k_and_no_longer_query_than_is_taken(engine):
    services = FakeServices(ROWS)
    ((hits,), _) = searched(services, engine, "x" * 5000, top_k=1)
    assert len(hits) == 1
    sent = str(services.seen[0].body or services.seen[0].parameters)
    assert "x" * WEB_ENGINES[engine].max_query_chars in sent
    assert "x" * (WEB_ENGINES[engine].max_query_chars + 1) not in sent


def fault(status, body="{}", **headers):
    return Response(body, status=status, headers=headers, content_type="application/json")


FAULTS = [
    ("500 once", [fault(500)], None, 2),
    ("500 for ever", [fault(500)] * 3, RetrieverUnavailable, 3),
    ("429 with Retry-After", [fault(429, **{"Retry-After": "0"})], None, 2),
    ("429 with an hour to wait", [fault(429, **{"Retry-After": "3600"})], RetrieverUnavailable, 1),
    ("401", [fault(401, json.dumps({"error": f"key {KEY} is wrong"}))], RetrieverRejected, 1),
    ("not JSON", [fault(200, "<html>blocked</html>")], RetrieverBadResponse, 1),
    ("wrong shape", [fault(200, json.dumps({"organic": 7, "organic_results": 7, "results": 7, "query": 7}))],
     RetrieverBadResponse, 1),
    ("wrong rows", [fault(200, json.dumps({name: [3] for name in ("organic", "organic_results", "results")}
                                          | {"query": {"pages": [3]}}))], RetrieverBadResponse, 1),
    ("too large", [fault(200, "x" * (5 << 20))], RetrieverBadResponse, 1),
    ("not UTF-8", [fault(200, b"\xff\xfe")], RetrieverBadResponse, 1),
    ("a redirect", [fault(302, Location="/elsewhere")], RetrieverBadResponse, 1),
]  # fmt: skip


@pytest.mark.parametrize("engine", WEB_ENGINES)
@pytest.mark.parametrize(("answers", "error", "sent"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_faults(engine, answers, error, sent, caplog):
    caplog.set_level(logging.DEBUG)
    services = FakeServices(ROWS, faults=list(answers))
    ((outcome,), stats) = searched(services, engine, "who?")
    assert len(services.seen) == sent and stats.retries == sent - 1
    if error is None:
        assert len(outcome) == 2 and not stats.failures
    else:
        assert type(outcome) is error and stats.failures == {error.kind: 1}
        logged = "".join(record.getMessage() for record in caplog.records if record.name != "werkzeug")
        assert KEY not in str(outcome) + logged or not WEB_ENGINES[engine].key_variable


def test_slow_and_down():
    app = Flask("slow")
    app.post("/search")(lambda: time.sleep(0.5) or "{}")
    service = JsonService(WEB_ENGINES["serper"], url="http://127.0.0.1:9/search")
    with pytest.raises(RetrieverUnavailable, match="is the server up"):
        asyncio.run(WebRetriever(service, rate=QUICK, retry=FAST).search(SearchRequest("q", 1)))
    with serve_app(app) as url:
        service = JsonService(WEB_ENGINES["serper"], url=f"{url}/search", read_timeout=0.1)
        with pytest.raises(RetrieverTimeout):
            asyncio.run(WebRetriever(service, rate=QUICK, retry=RetryPolicy(1)).search(SearchRequest("q", 1)))


def test_the_wiki_says_that_it_is_busy_with_status_200():
    busy = fault(200, json.dumps({"error": {"code": "maxlag", "info": "wait"}}))
    ((hits,), stats) = searched(FakeServices(ROWS, faults=[busy]), "wikipedia", "who?")
    assert len(hits) == 2 and stats.retries == 1
    wrong = fault(200, json.dumps({"error": {"code": "badvalue", "info": "no"}}))
    ((outcome,), _) = searched(FakeServices(ROWS, faults=[wrong]), "wikipedia", "who?")
    assert isinstance(outcome, RetrieverBadResponse) and "badvalue" in str(outcome)


@pytest.mark.parametrize("engine", [name for name, row in WEB_ENGINES.items() if row.key_variable])
def test_a_missing_key_is_named_and_nothing_is_sent(engine, monkeypatch):
    monkeypatch.setenv(WEB_ENGINES[engine].key_variable, " ")
    services = FakeServices(ROWS)
    ((outcome,), _) = searched(services, engine, "who?")
    assert isinstance(outcome, RetrieverRejected) and WEB_ENGINES[engine].key_variable in str(outcome)
    assert services.seen == []


def health(service):
    async def scenario():
        retriever = WebRetriever(service, rate=QUICK)
        try:
            return await retriever.health(1.0)
        finally:
            await retriever.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize("engine", WEB_ENGINES)
def test_health_asks_no_search(engine, monkeypatch):
    services = FakeServices(ROWS)
    with serve_app(services.app()) as url:
        service = JsonService(WEB_ENGINES[engine], url=url + PATHS[engine])
        assert health(service).index == f"web:{engine}"
        assert [(seen.method, seen.body) for seen in services.seen] == [("GET", None)]
        assert "q" not in services.seen[0].parameters
        services.faults.append(fault(503))
        with pytest.raises(RetrieverUnavailable, match="503"):
            health(service)
    with pytest.raises(RetrieverUnavailable):
        health(JsonService(WEB_ENGINES[engine], url="http://127.0.0.1:9/"))
    if WEB_ENGINES[engine].key_variable:
        monkeypatch.delenv(WEB_ENGINES[engine].key_variable)
        with pytest.raises(RetrieverRejected, match=WEB_ENGINES[engine].key_variable):
            health(JsonService(WEB_ENGINES[engine]))


def test_the_address_comes_from_the_option_the_environment_or_the_row(monkeypatch):
    wiki = WEB_ENGINES["wikipedia"]
    assert JsonService(wiki).host == "en.wikipedia.org"
    assert JsonService(wiki, site="de.wikipedia.org").host == "de.wikipedia.org"
    monkeypatch.setenv("WIKIPEDIA_BASE_URL", "http://proxy:8080/w/api.php")
    assert JsonService(wiki).host == "proxy:8080"
    assert JsonService(wiki, url="http://name:secret@here/api").host == "here"
    for wrong in ("ftp://x/", "http://", "no address", "http://x/?api_key=1"):
        with pytest.raises(ValueError, match="must look like"):
            JsonService(wiki, url=wrong)


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/search", "http://127.0.0.1\\search"])
def test_an_address_that_cannot_be_asked_shows_no_key(address):
    """SerpAPI takes its key in the address, which the HTTP library quotes."""

    async def scenario():
        retriever = WebRetriever(JsonService(WEB_ENGINES["serpapi"], url=address), rate=QUICK, retry=FAST)
        try:
            await retriever.search(SearchRequest("who?", 5))
        finally:
            await retriever.close()

    with pytest.raises(RetrieverError) as failed:
        asyncio.run(scenario())
    assert KEY not in "".join(traceback.format_exception(failed.value))


# --- the cache ---


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
    monkeypatch.setattr("retriever.web.disk_cache._PUTS_PER_LOOK", 4)

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


# --- the rate limit ---


def test_a_bucket_gives_its_burst_then_its_rate():
    now = [0.0]
    limits = RateLimits(Rate(2, burst=3), clock=lambda: now[0])
    assert [limits.reserve("a") for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert limits.reserve("b") == 0
    now[0] = 1.5  # the two on credit are due, and one more token is there
    assert [limits.reserve("a") for _ in range(2)] == [0, 0.5]


@given(st.lists(st.floats(0, 3), max_size=40), st.floats(0.1, 50), st.integers(1, 10))
def test_no_window_ever_holds_more_than_burst_and_rate_allow(pauses, per_second, burst):
    now = [0.0]
    limits = RateLimits(Rate(per_second, burst), clock=lambda: now[0])
    granted = []
    for pause in pauses:
        now[0] += pause
        granted.append(now[0] + limits.reserve("host"))
    assert granted == sorted(granted)
    for first, start in enumerate(granted):
        for last in range(first, len(granted)):
            assert last - first + 1 <= burst + (granted[last] - start) * per_second + 1 + 1e-6


def test_searches_keep_to_the_rate_and_the_queue_is_not_on_the_deadline():
    async def scenario(url):
        service = JsonService(WEB_ENGINES["serper"], url=f"{url}/search")
        retriever = WebRetriever(service, rate=Rate(5, 1), retry=RetryPolicy(1, deadline=1.0))
        started = time.monotonic()
        await asyncio.gather(*(retriever.search(SearchRequest(f"q{n}", 1)) for n in range(8)))
        await retriever.close()
        return time.monotonic() - started

    with serve_app(FakeServices(ROWS).app()) as url:
        assert asyncio.run(scenario(url)) >= 1.4


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0)])
def test_a_rate_lets_something_through(per_second, burst):
    with pytest.raises(ValueError, match="per_second > 0"):
        Rate(per_second, burst)


# --- DuckDuckGo: the real library against pages in the engine's shape ---


def duck_page(*rows):
    items = "".join(
        f'<div class="links_main result__body"><h2><a href="{url}">{title}</a></h2><a href="{url}">{text}</a></div>'
        for url, title, text in rows
    )
    return f"<html><body>{items}</body></html>"


@pytest.fixture
def duck(monkeypatch):
    """Sets what DuckDuckGo answers: (query) -> (status, page); gives (search, queries asked)."""
    pytest.importorskip("ddgs")
    from ddgs.engines.duckduckgo import Duckduckgo
    from flask import request

    asked = []

    def search(answer, *queries, read_timeout=5.0):
        app = Flask("duck")

        @app.post("/html/")
        def html():
            asked.append(request.form["q"])
            status, page = answer(request.form["q"])
            return Response(page, status=status, content_type="text/html; charset=utf-8")

        async def scenario():
            retriever = WebRetriever(DuckDuckGo(read_timeout=read_timeout), site=SITE, rate=QUICK, retry=FAST)
            return [await retriever.search(SearchRequest(query, 3)) for query in queries]

        with serve_app(app) as url:
            monkeypatch.setattr(Duckduckgo, "search_url", f"{url}/html/")
            return asyncio.run(scenario())

    return search, asked


def test_duckduckgo_finds(duck):
    search, asked = duck
    rows = [("https://a.example/1", "One", "first"), ("https://a.example/2", "Two", "second")]
    ((hits),) = search(lambda query: (200, duck_page(*rows)), "who?")
    assert asked == [f"who? site:{SITE}"]
    assert [(hit.passage.id, hit.passage.title) for hit in hits] == [(url, title) for url, title, _ in rows]
    assert "first" in hits[0].passage.text


def test_duckduckgo_tells_nothing_found_from_being_blocked(duck):
    search, asked = duck
    works = duck_page(("https://a.example", "E", "e"))
    assert search(lambda query: (200, works if query == "encyclopedia" else duck_page()), "zzz", "yyy") == [(), ()]
    assert asked == [f"zzz site:{SITE}", "encyclopedia", f"yyy site:{SITE}"]
    with pytest.raises(RetrieverUnavailable, match="blocks this machine"):
        search(lambda query: (202, "a puzzle for robots"), "zzz")


@pytest.mark.slow
def test_duckduckgo_in_time(duck):
    search, _ = duck
    started = time.monotonic()
    with pytest.raises(RetrieverError):
        search(lambda query: time.sleep(3) or (200, ""), "zzz", read_timeout=1.0)
    assert time.monotonic() - started < 8
