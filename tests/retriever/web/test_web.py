"""Web search services: their wire formats, faults, keys and health, against local fakes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback

import pytest
from flask import Flask
from support.services.fake_web import KEY, PATHS, ROWS, FakeServices, serve_app
from support.services.web_searches import FAST, QUERY, QUICK, SITE, fault, searched

from foundation.retry import RetryPolicy
from retriever import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
    SearchRequest,
)
from retriever.web.engines import WEB_ENGINES
from retriever.web.search import JsonService, WebRetriever

# What each service is sent for the query, at most 5 results, from one site.
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
