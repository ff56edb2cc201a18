"""The check of the search service: the right shape, the right number, and how fast."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.http import HttpLimits
from foundation.retry import RetryPolicy
from r1_searcher.inspection.finding import Finding, failed, ok, warning
from r1_searcher.inspection.subject import Subject
from retriever.client.http_retriever import HttpRetriever
from retriever.errors import RetrieverError
from retriever.passage import Hits, SearchRequest
from retriever.sources import is_address, open_retriever
from retriever.wire.formats import FORMATS, format_of_url

_TIMEOUT_S = 10.0
_SEARCHES = 5
_SLOW_S = 1.0
"""A turn of some hundred tokens takes an engine seconds; a search that takes one delays every episode noticeably."""


@dataclass(frozen=True)
class _Probe:
    """Some searches, one after another."""

    seconds: float
    """Median."""
    results: Sequence[Hits]


def check_search(subject: Subject) -> Finding:
    """Some searches must be answered with at most `top_k` passages, best first, and soon."""
    source, top_k = subject.search, subject.recipe.limits.top_k
    if not source:
        return ok("not asked for (--search)")
    try:
        probe = asyncio.run(_probe(source, _requests(subject, top_k)))
    except ValueError as error:
        return failed(f"{source!r} is no search service: {error}", "give an address such as http://127.0.0.1:8000")
    except RetrieverError as error:
        return _explain(source, top_k, error)
    if any(not passage.text.strip() for hits in probe.results for passage in (hit.passage for hit in hits)):
        return failed(f"{source} gives passages without text", "look at the corpus that the service was given")
    found = [len(hits) for hits in probe.results]
    if max(found) > top_k:
        return failed(f"{source} gave {max(found)} passages for top_k {top_k}", "fix the service")
    seen = f"{len(found)} searches, median {1000 * probe.seconds:.0f} ms, {min(found)} to {max(found)} of {top_k} found"
    if any(list(hits) != sorted(hits, key=lambda hit: -hit.score) for hits in probe.results):
        return warning(f"{seen}; not best first", "the service must sort its hits by falling score")
    if probe.seconds > _SLOW_S:
        return warning(seen, "train with a faster index, or more servers: --search takes several addresses")
    if subject.has_own_rows and not any(found):
        return warning(seen, "none of your questions finds anything: is this the right corpus?")
    return ok(seen)


def _requests(subject: Subject, top_k: int) -> list[SearchRequest]:
    """Searches that differ, so that no cache answers; a single one where a search may cost money."""
    rows = [subject.rows[i % len(subject.rows)] for i in range(_SEARCHES if is_address(subject.search) else 1)]
    context = [{"row": row, "progress": 0.0} for row in rows]
    return [SearchRequest(f"{row.question} {'?' * i}", top_k, context[i]) for i, row in enumerate(rows)]


async def _probe(source: str, requests: Sequence[SearchRequest]) -> _Probe:
    retriever = open_retriever(source, read_timeout=_TIMEOUT_S, retry=RetryPolicy(1, deadline=_TIMEOUT_S))
    seconds, results = [], []
    try:
        for request in requests:
            started = time.perf_counter()
            results.append(await retriever.search(request))
            seconds.append(time.perf_counter() - started)
    finally:
        await retriever.close()
    return _Probe(statistics.median(seconds), results)


def _explain(source: str, top_k: int, error: RetrieverError) -> Finding:
    """Whether the service is down, or speaks another system's format."""
    base = _base_of(source)
    for name in FORMATS if is_address(source) else ():
        if asyncio.run(_speaks(base, name, top_k)):
            return failed(
                f"{source} speaks the format {name!r}, not what its address says ({error})",
                f"say so in its address: --search '{base.replace(',', f'?wire={name},')}?wire={name}'",
            )
    return failed(
        f"the search service does not answer: {error}",
        "start it (python -m retriever.server --help), or give its address with --search",
    )


def _base_of(source: str) -> str:
    """The addresses without the paths and options that say what is spoken there."""
    bases = [url.partition("?")[0].strip().rstrip("/") for url in source.split(",")]
    return ",".join(base.removesuffix(format_of_url(base).path) for base in bases)


async def _speaks(source: str, name: str, top_k: int) -> bool:
    try:
        limits, retry = HttpLimits(read_timeout=5.0), RetryPolicy(1, deadline=5.0)
        async with HttpRetriever(source, wire=name, limits=limits, retry=retry) as retriever:
            await retriever.search(SearchRequest("test", top_k))
    except (RetrieverError, ValueError):
        return False
    return True
