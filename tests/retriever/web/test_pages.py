"""Page reading, against a real site on this machine: good pages, bad pages, and a network that is out."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from types import SimpleNamespace

import pytest
from flask import Flask, Response, redirect, request
from hypothesis import given
from hypothesis import strategies as st
from support.services.fake_web import article, serve_app

from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from foundation.retry import RetryPolicy
from retriever import RetrieverBadResponse, RetrieverUnavailable, SearchRequest
from retriever.web.disk_cache import DiskCache
from retriever.web.page_fetch import MAX_PAGE_BYTES, RawPage
from retriever.web.page_text import PageSummarizer, PageText, choose_parts, read_text, split_parts
from retriever.web.pages import PageBudget, PageRetriever
from retriever.web.rate_limit import Rate

FAST = RetryPolicy(attempts=2, backoff=0.02, deadline=20.0)
FILLER = "The weather was mild and the streets were full of people who had come for the fair. " * 4
TOWER = "The Eiffel Tower was designed by Maurice Koechlin and Émile Nouguier, engineers of the company. " * 2
ROW = SimpleNamespace(id="q1", question="Who designed the Eiffel Tower?", answers=("Koechlin",))
DEAD = "http://127.0.0.1:9/"

pytestmark = pytest.mark.usefixtures("page_library")


@pytest.fixture(scope="module")
def site():
    """A web site with every kind of page; its `hits` counts requests by path."""
    app, hits = Flask("site"), []
    app.before_request(lambda: hits.append(request.path))
    html = {
        "/tower": article("Eiffel Tower", FILLER, TOWER, FILLER),
        "/links": "<html><title>L</title><body><a href='/a'>Alpha link</a> <a href='/b'>Beta</a></body></html>",
        "/blank": "<html><body></body></html>",
    }
    for path, page in html.items():
        app.add_url_rule(path, path, lambda page=page: page)
    routes = {
        "/plain": lambda: Response("just\r\n\r\n some   text \n", content_type="text/plain; charset=latin-1"),
        "/latin": lambda: Response(
            article("Café", "Crème brûlée à la carte, déjà vu. " * 9).encode("latin-1"),
            content_type="text/html; charset=iso-8859-1",
        ),
        "/pdf": lambda: Response(b"%PDF-1.7", content_type="application/pdf"),
        "/noise": lambda: Response(b"\x00\xff\xfe" * 999, content_type="text/html"),
        "/huge": lambda: Response((b"x" * (1 << 20) for _ in range(20)), content_type="text/html"),
        "/loop": lambda: redirect("/loop"),
        "/ping": lambda: redirect("/pong"),
        "/pong": lambda: redirect("/ping"),
        "/moved": lambda: redirect("/moved/again"),
        "/moved/again": lambda: redirect("/tower"),
        "/nowhere": lambda: Response(status=301),
        "/file": lambda: redirect("file:///etc/passwd"),
        "/broken": lambda: ("down", 503),
        "/slow": lambda: time.sleep(0.6) or "late",
        "/once": lambda: ("wait", 429) if hits.count("/once") == 1 else html["/tower"],
    }
    for path, view in routes.items():
        app.add_url_rule(path, path, view)
    with serve_app(app) as url:
        yield SimpleNamespace(url=url, hits=hits)


def read(urls, *, row=ROW, top_k=5, **options):
    """What reading each address brings, and the retriever's counts."""

    async def scenario():
        settings = {"retry": FAST, "rate": Rate(10_000, 100), "allow_private": True, "read_timeout": 10.0} | options
        pages = PageRetriever(**settings)
        context = {"row": row, "progress": 0.0} if row else None
        try:
            return [await pages.search(SearchRequest(url, top_k, context)) for url in urls], pages.stats
        finally:
            await pages.close()

    return asyncio.run(scenario())


def test_a_page_is_read_without_its_menus_best_part_first(site):
    ((hits,), stats) = read([f"{site.url}/tower"], budget=PageBudget(part=400, total=900))
    first = hits[0].passage
    assert "Maurice Koechlin" in first.text and first.title == "Eiffel Tower" and hits[0].score > hits[1].score
    assert first.id.startswith(f"{site.url}/tower#")
    assert sum(len(hit.passage.text) for hit in hits) <= 900
    shown = "".join(hit.passage.text for hit in hits)
    assert "menu" not in shown and "footer" not in shown and "tracker" not in shown
    assert not stats.failures


def test_without_a_question_the_page_is_shown_from_its_start(site):
    ((hits,), _) = read([f"{site.url}/tower"], row=None, top_k=2, budget=PageBudget(part=400, total=900))
    assert [hit.passage.id for hit in hits] == [f"{site.url}/tower#1", f"{site.url}/tower#2"]
    assert [hit.score for hit in hits] == [0, 0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/plain", "just\nsome text"),
        ("/latin", "Crème brûlée à la carte, déjà vu."),
        ("/links", "Alpha link"),
        ("/moved", "Maurice Koechlin"),
        ("/once", "Maurice Koechlin"),
    ],
)
def test_pages_that_can_be_read(site, path, text):
    ((hits,), _) = read([site.url + path])
    assert text in "\n".join(hit.passage.text for hit in hits)


def test_a_redirected_page_is_named_after_where_it_is(site):
    ((hits,), _) = read([f"{site.url}/moved#section"])
    assert hits[0].passage.id.startswith(f"{site.url}/tower#")


UNREADABLE = [
    ("/blank", "bad_response"),
    ("/noise", "bad_response"),
    ("/pdf", "bad_response"),
    ("/huge", "bad_response"),
    ("/loop", "bad_response"),
    ("/ping", "bad_response"),
    ("/nowhere", "bad_response"),
    ("/file", "bad_response"),
    ("/missing", "rejected"),
    ("/broken", "unavailable"),
    ("/slow", "timeout"),
]


@pytest.mark.parametrize(("path", "kind"), UNREADABLE)
def test_a_page_that_cannot_be_read_is_an_empty_result(site, path, kind, caplog):
    caplog.set_level(logging.INFO, "retriever.web.pages")
    options = {"read_timeout": 0.2} if kind == "timeout" else {}
    ((hits,), stats) = read([site.url + path], probes=[f"{site.url}/plain"], **options)
    assert hits == () and stats.failures == {kind: 1}
    assert "page not read" in caplog.text


def test_a_loop_is_left_after_a_few_turns(site):
    site.hits.clear()
    read([f"{site.url}/loop"])
    assert len(site.hits) == 6


@pytest.mark.parametrize(
    "url",
    ["", "   ", "no address", "ftp://a.example/x", "file:///etc/passwd", "http://", "http://a:99999/", "http://[::1",
     "javascript:alert(1)", "http://a.example/" + "x" * 3000, "http://a b.example/", "http://\ud800/"],
)  # fmt: skip
def test_what_is_no_address_is_an_empty_result_and_nothing_is_sent(url):
    class Refusing:
        async def send(self, *arguments):
            raise AssertionError("sent")

        async def close(self):
            pass

    assert read([url], transport=Refusing())[0] == [()]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0"])
def test_private_hosts_are_refused_unless_allowed(host, caplog):
    caplog.set_level(logging.INFO, "retriever.web.pages")
    ((hits,), stats) = read([f"http://{host}/"], allow_private=False)
    assert hits == () and stats.failures == {"bad_response": 1} and "private network" in caplog.text


# --- one page is gone, or all of them are ---


def test_a_dead_host_is_an_empty_result_while_the_network_lives(site):
    assert read([DEAD], probes=[DEAD, f"{site.url}/broken"])[0] == [()]


def test_when_nothing_can_be_reached_the_search_fails():
    with pytest.raises(RetrieverUnavailable, match="the network is out"):
        read([DEAD], probes=[DEAD, "http://127.0.0.1:10/"])
    assert read([DEAD], probes=[])[0] == [()]


def test_a_host_without_a_name_is_asked_for_once(monkeypatch, site):
    lookups = []

    async def none(self, host, port, **more):
        lookups.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", none)
    with pytest.raises(RetrieverUnavailable, match="the network is out"):
        read(["http://no-such-host.example/"], allow_private=False, probes=[DEAD])
    assert lookups.count("no-such-host.example") == 1


def health(**options):
    async def scenario():
        pages = PageRetriever(retry=FAST, **options)
        try:
            return await pages.health(1.0)
        finally:
            await pages.close()

    return asyncio.run(scenario())


def test_health(site):
    assert health(probes=[f"{site.url}/plain"]).status == "ready"
    with pytest.raises(RetrieverUnavailable, match="the network is out"):
        health(probes=[DEAD])
    summarizer = PageSummarizer(OpenAIEndpoint(EndpointConfig("http://127.0.0.1:9/v1")))
    with pytest.raises(RetrieverUnavailable):
        health(probes=[f"{site.url}/plain"], summarizer=summarizer)


def test_a_cached_page_is_not_fetched_again_and_fits_other_questions(site, tmp_path):
    site.hits.clear()
    url = f"{site.url}/tower"
    ((first, again), _) = read([url, url], cache=DiskCache(tmp_path))
    ((other,), _) = read([url], row=None, cache=DiskCache(tmp_path))
    assert first == again and other[0].passage.title == "Eiffel Tower" and site.hits == ["/tower"]


def test_many_pages_at_once(site):
    async def scenario():
        pages = PageRetriever(retry=FAST, rate=Rate(10_000, 100), allow_private=True)
        requests = [SearchRequest(f"{site.url}/tower?{n}", 2, {"row": ROW}) for n in range(30)]
        found = await asyncio.gather(*map(pages.search, requests))
        await pages.close()
        return found

    for number, hits in enumerate(asyncio.run(scenario())):
        assert hits[0].passage.id.startswith(f"{site.url}/tower?{number}#")


# --- summaries by a model ---


def summarized(answer, site, status=200):
    """Hits, and what the model was sent; `answer` is its text."""
    app, seen = Flask("model"), []

    @app.post("/v1/chat/completions")
    def chat():
        seen.append(request.get_json())
        return Response(json.dumps({"choices": [{"message": {"content": answer}}]}), status=status)

    with serve_app(app) as url:
        summarizer = PageSummarizer(OpenAIEndpoint(EndpointConfig(url, "m", retry=FAST)))
        return read([f"{site.url}/tower"], summarizer=summarizer)[0][0], seen


def test_a_summary_stands_for_the_page(site):
    hits, (sent,) = summarized("<think>hm</think>\nKoechlin and Nouguier designed it.", site)
    assert [hit.passage.text for hit in hits] == ["Koechlin and Nouguier designed it."]
    assert hits[0].passage.id == f"{site.url}/tower#1"
    prompt = sent["messages"][0]["content"]
    assert ROW.question in prompt and "Maurice Koechlin" in prompt and sent["temperature"] == 0
    assert ROW.answers[0] not in prompt.replace("Maurice Koechlin", "")


@pytest.mark.parametrize("answer", ["None", " none.\n", "**None**"])
def test_a_page_that_does_not_help_is_an_empty_result(answer, site):
    assert summarized(answer, site)[0] == ()


def test_a_failing_model_fails_the_search(site):
    with pytest.raises(RetrieverUnavailable):
        summarized("x", site, status=500)
    with pytest.raises(RetrieverBadResponse):
        summarized(None, site)


# --- parts ---


@given(st.text(alphabet="ab .!\n\u2028é", max_size=400), st.integers(1, 50))
def test_parts_keep_every_word_and_their_size(text, most):
    parts = split_parts(text, most)
    assert all(0 <= len(part) <= most for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_parts_are_cut_between_paragraphs_where_that_works():
    assert split_parts("aaa\nbbb\nccc", 7) == ["aaa\nbbb", "ccc"]
    assert split_parts("One two. Three four! Five", 12) == ["One two.", "Three four!", "Five"]
    assert split_parts("abcdefgh", 3) == ["abc", "def", "gh"]


def test_chosen_parts_stay_within_the_budget():
    page = PageText("u", "T", "\n".join(f"{name} {'x' * 90}" for name in ("alpha", "beta", "gamma", "delta")))
    chosen = choose_parts(page, "gamma beta beta", top_k=3, part_chars=100, budget_chars=1000)
    assert [hit.passage.id for hit in chosen] == ["u#2", "u#3", "u#1"] and chosen[2].score == 0
    assert len(choose_parts(page, "gamma", top_k=9, part_chars=100, budget_chars=199)) == 2
    assert len(choose_parts(page, "gamma", top_k=9, part_chars=100, budget_chars=1)) == 1
    wordless = PageText("u", "T", "… — …")
    assert len(choose_parts(wordless, "gamma", top_k=9, part_chars=100, budget_chars=100)) == 1


@pytest.mark.parametrize("charset", ["no-such-charset", "utf-16", "base64", "idna", "punycode", ""])
def test_a_wrong_charset_does_no_harm(charset):
    page = RawPage("http://x/", "text/plain", charset, b"some words here")
    assert read_text(page).text


@pytest.mark.slow
def test_reading_the_largest_page_takes_seconds_at_most():
    body = article("Big", *(f"Paragraph {n} of a very long page. " * 20 for n in range(6000))).encode()[:MAX_PAGE_BYTES]
    started = time.monotonic()
    assert len(read_text(RawPage("http://x/", "text/html", "utf-8", body)).text) == 400_000
    assert time.monotonic() - started < 20
