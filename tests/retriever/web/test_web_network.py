"""The real services: `pytest -m network`. What needs a key is skipped where there is none."""

from __future__ import annotations

import asyncio
import os

import pytest

from retriever import SearchRequest
from retriever.sources import open_retriever
from retriever.web.engines import WEB_ENGINES

pytestmark = pytest.mark.network


def first_search(spec, query, **context):
    async def scenario():
        retriever = open_retriever(spec)
        try:
            await retriever.health()
            return await retriever.search(SearchRequest(query, 3, context or None))
        finally:
            await retriever.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize("service", [*WEB_ENGINES, "ddgs"])
def test_a_service_finds_paris(service):
    variable = WEB_ENGINES[service].key_variable if service in WEB_ENGINES else ""
    if variable and not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    hits = first_search(f"web:{service}?cache=none", "capital of France")
    assert 1 <= len(hits) <= 3 and any("Paris" in hit.passage.titled_text for hit in hits)
    assert all(hit.passage.id.startswith("http") for hit in hits)


def test_a_page_is_read():
    hits = first_search("pages:?cache=none", "https://en.wikipedia.org/wiki/Paris")
    assert "France" in hits[0].passage.text and hits[0].passage.id.startswith("https://en.wikipedia.org/wiki/Paris#")


def test_search_and_read():
    hits = first_search("read:web:wikipedia?cache=none|pages:?cache=none", "Eiffel Tower")
    assert "Paris" in hits[0].passage.text
