"""Pages and addresses written against their readers: a typed failure or an empty result, in time, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest
from flask import Flask, Response, request
from support.hostile.web_site import fuzz_pages, fuzz_urls
from support.services.fake_network import PUBLIC, FakeWire
from support.services.fake_web import article, serve_app

from foundation.retry import RetryPolicy
from foundation.sandbox import Sandbox, SandboxLimits
from retriever import RetrieverError, RetrieverUnavailable, SearchRequest
from retriever.errors import LimitReached
from retriever.web import page_reader
from retriever.web.pages import PageRetriever
from retriever.web.rate_limit import Rate

GOOD = article("Tower", "The tower was designed by Maurice Koechlin, an engineer of the company. " * 9)
LOCATIONS = ["http://[", "//[", "http://a]b/", "http://℀/"]
TYPES = [
    "text/html; charset*0=a; charset*=us-ascii'en'b",
    "text/html;\xff\xc3\xa9charset*0=9(",
    "text/html; charset=base64",
    "text/html; charset=\x01",
]
CRASHES_THE_PARSER = "<math><br/><row><cell><math><span class='comment author date'>"
DEAD = "http://127.0.0.1:9/"

pytestmark = pytest.mark.usefixtures("page_library")


@pytest.fixture(scope="module")
def site():
    app, seen = Flask("site"), []
    app.before_request(lambda: seen.append((request.path, dict(request.headers))))
    bomb = "<html><body><p " + " ".join(f"a{n}=1" for n in range(60_000)) + ">x</p></body></html>"
    app.add_url_rule("/good", "good", lambda: Response(GOOD, headers={"Set-Cookie": "track=episode-1"}))
    app.add_url_rule("/good2", "good2", lambda: GOOD)
    app.add_url_rule("/type/<int:n>", "type", lambda n: Response(GOOD, headers={"Content-Type": TYPES[n]}))
    app.add_url_rule("/assert", "assert", lambda: CRASHES_THE_PARSER)
    app.add_url_rule("/bomb", "bomb", lambda: bomb)
    app.add_url_rule(
        "/punycode/<int:n>",
        "punycode",
        lambda n: Response(b"ab-" + b"z9a" * 700_000, content_type="text/plain; charset=punycode"),
    )
    with serve_app(app) as url:
        yield SimpleNamespace(url=url, seen=seen)


def read(*urls, at_once=False, **options):
    async def scenario():
        settings = {
            "retry": RetryPolicy(1, deadline=60),
            "read_timeout": 60.0,
            "rate": Rate(1e4, 100),
            "allow_private": True,
        } | options
        pages = PageRetriever(**({"probes": ()} | settings))
        try:
            asked = [pages.search(SearchRequest(url, 5)) for url in urls]
            return await asyncio.gather(*asked) if at_once else [await one for one in asked]
        finally:
            await pages.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_redirect_to_nonsense_is_an_empty_result(location):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def scenario():
        # Flask would put the address right.
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            pages = PageRetriever(retry=RetryPolicy(1, deadline=20), allow_private=True, probes=())
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            try:
                return await pages.search(SearchRequest(url, 5))
            finally:
                await pages.close()

    assert asyncio.run(scenario()) == ()


@pytest.mark.parametrize("n", range(len(TYPES)), ids=map(ascii, TYPES))
def test_an_odd_content_type_is_read_as_far_as_it_goes(site, n):
    assert "Koechlin" in read(f"{site.url}/type/{n}")[0][0].passage.text


def test_a_parser_that_fails_is_an_empty_result(site):
    assert isinstance(read(f"{site.url}/assert")[0], tuple)


@pytest.mark.parametrize(
    "url",
    ["http://日本@example.com/", "http://u:p@example.com/", f"http://{'a' * 64}.test/", "http://a..b/", "http://%/"],
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_what_a_policy_writes_is_never_an_exception(url, allow_private, monkeypatch):
    FakeWire("http://127.0.0.1:9").install(monkeypatch)
    assert read(url, allow_private=allow_private) == [()]


def test_hostile_pages_take_no_more_than_their_time_and_the_next_page_is_read(site, monkeypatch):
    """Eight pages of 2 MB in a charset of quadratic time, and one whose tag has 60,000 attributes."""
    limits = SandboxLimits(processes=2, seconds=2.0)
    monkeypatch.setattr(page_reader, "READERS", Sandbox("retriever.web.page_reader:reader", limits))
    assert read(f"{site.url}/good")[0]
    started = time.monotonic()
    hostile = [f"{site.url}/punycode/{n}" for n in range(8)] + [f"{site.url}/bomb"]
    *_, bomb, good = read(*hostile, f"{site.url}/good", at_once=True)
    assert bomb == () and "Koechlin" in good[0].passage.text
    assert time.monotonic() - started < 40


def test_a_page_without_a_free_reader_fails_the_search(site, monkeypatch):
    limits = SandboxLimits(processes=1, seconds=30)
    monkeypatch.setattr(page_reader, "READERS", Sandbox("retriever.web.page_reader:reader", limits))
    with pytest.raises(LimitReached, match="is not read: "):
        read(*[f"{site.url}/bomb"] * 3, at_once=True, retry=RetryPolicy(1, deadline=1.0))


def test_a_host_that_is_asked_too_often_fails_the_search_within_its_deadline(site):
    started = time.monotonic()
    with pytest.raises(LimitReached, match="asked so often"):
        read(*[f"{site.url}/good"] * 9, at_once=True, rate=Rate(0.1, 1), retry=RetryPolicy(1, deadline=0.5))
    assert time.monotonic() - started < 40, "eight turns take 80 s"


def test_no_cookie_is_kept_and_a_request_for_a_page_claims_no_content(site):
    site.seen.clear()
    read(f"{site.url}/good", f"{site.url}/good2")
    assert [path for path, _ in site.seen] == ["/good", "/good2"]
    assert not any({"Cookie", "Content-Type", "Authorization", "Referer"} & set(headers) for _, headers in site.seen)


def test_made_up_hosts_do_not_flood_the_probes(site, monkeypatch):
    FakeWire(site.url).install(monkeypatch)
    site.seen.clear()
    read(*[f"http://no-such-host-{n}.test/" for n in range(50)], at_once=True, probes=[f"{site.url}/good"])
    assert len(site.seen) == 1


def test_the_state_of_the_network_is_remembered(site):
    async def scenario():
        pages = PageRetriever(retry=RetryPolicy(1), allow_private=True, probes=[DEAD])
        failures = []
        for _ in range(3):
            try:
                await pages.search(SearchRequest(DEAD, 5))
            except RetrieverError as error:
                failures.append(error)
        await pages.close()
        return failures

    failures = asyncio.run(scenario())
    assert [type(error) for error in failures] == [RetrieverUnavailable] * 3


def test_no_escape_sequence_of_a_page_reaches_the_log(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    app = Flask("evil")
    app.add_url_rule("/", "root", lambda: ("\x1b]0;owned\x07 \x1b[31m \u202e gone", 404))
    with serve_app(app) as url:
        assert read(f"{url}/") == [()]
    text = "".join(record.getMessage() for record in caplog.records if record.name == "retriever.web.pages")
    assert "owned" in text and not {"\x1b", "\x07", "\u202e"} & set(text)


def check(outcome, count):
    assert outcome.raised == [] and outcome.late == [] and outcome.good_missed == []
    assert outcome.played == count


def test_fuzzed_pages_through_the_episode_loop():
    outcome = asyncio.run(fuzz_pages(60))
    check(outcome, 60)
    assert outcome.read > 8, outcome


def test_fuzzed_addresses_through_the_episode_loop(monkeypatch):
    wire = FakeWire("http://127.0.0.1:9", {"example.test": [[PUBLIC]]}).install(monkeypatch)
    check(asyncio.run(fuzz_urls(200)), 200)
    assert set(wire.connected) <= {PUBLIC}
