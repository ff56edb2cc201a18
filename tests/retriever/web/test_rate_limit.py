"""No more searches of the web than the rate allows."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.services.fake_web import ROWS, FakeServices, serve_app

from foundation.retry import RetryPolicy
from retriever import (
    SearchRequest,
)
from retriever.web.engines import WEB_ENGINES
from retriever.web.rate_limit import Rate, RateLimits
from retriever.web.search import JsonService, WebRetriever


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
