"""DuckDuckGo: the real library against pages in the engine's shape."""

from __future__ import annotations

import asyncio
import time

import pytest
from flask import Flask, Response
from support.services.fake_web import serve_app
from support.services.web_searches import FAST, QUICK, SITE

from retriever import (
    RetrieverError,
    RetrieverUnavailable,
    SearchRequest,
)
from retriever.web.duckduckgo import DuckDuckGo
from retriever.web.search import WebRetriever


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
