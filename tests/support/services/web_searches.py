"""Searches of the fake web by the real retriever."""

from __future__ import annotations

import asyncio

from flask import Response

from foundation.retry import RetryPolicy
from retriever import (
    RetrieverError,
    SearchRequest,
)
from retriever.web.engines import WEB_ENGINES
from retriever.web.rate_limit import Rate
from retriever.web.search import JsonService, WebRetriever
from support.services.fake_web import PATHS, serve_app

FAST = RetryPolicy(attempts=3, backoff=0.02, deadline=20.0)
QUICK = Rate(10_000, 10_000)
QUERY, SITE = 'C++ & "50%" = é?', "en.wikipedia.org"


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


def fault(status, body="{}", **headers):
    return Response(body, status=status, headers=headers, content_type="application/json")
