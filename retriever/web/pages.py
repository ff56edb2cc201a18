"""Page reading as a retriever: the query is an address, the hits are parts of the page.

`SearchAndRead` puts a search before it: the online search of R1-Searcher's evaluation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from foundation.http import Transport
from foundation.loops import AskedOnce
from foundation.retry import Attempts, RetryPolicy
from retriever.client.transport import web_transport
from retriever.errors import (
    LimitReached,
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverUnavailable,
)
from retriever.interface import READY, Health, Source
from retriever.passage import Hit, Hits, Passage, SearchRequest
from retriever.row_facts import RowFacts
from retriever.web.disk_cache import DiskCache, cache_key
from retriever.web.page_fetch import MAX_PAGE_BYTES, PageFetcher
from retriever.web.page_reader import read_page
from retriever.web.page_text import PageSummarizer, PageText, check_library, choose_parts
from retriever.web.public_hosts import why_not_public
from retriever.web.rate_limit import Rate, RateLimits
from retriever.wire import bodies

logger = logging.getLogger(__name__)

PROBES = ("https://www.wikipedia.org/", "https://example.com/")
"""Pages that are there whenever the network is."""
NETWORK_STATE_S = 10.0
"""As long as the answer of the probes stands for the network's state."""
PROBE_TIMEOUT_S = 10.0
RATE = Rate(5, 5)
TRIED_PAGES = 3
"""Pages of a search that are tried in turn, as published."""


@dataclass(frozen=True, slots=True)
class PageBudget:
    """How much of a page is shown. Sizes in characters."""

    part: int = 2000
    """Of one part at most."""
    total: int = 8000
    """Of all chosen parts of one page together."""

    def __post_init__(self) -> None:
        """Raise ValueError for a budget that shows nothing."""
        if not 1 <= self.part <= self.total:
            raise ValueError(f"expected 1 <= part <= total characters of a page, found {self.part} and {self.total}")


class PageRetriever:
    """Reads web pages that a model names.

    Where the line is drawn: a page that cannot be read (no such host, 4xx, 5xx, too slow, too large, not text, a
    redirect loop, a private address, no address at all) is an EMPTY result, as in DeepResearcher: the model chose it,
    and has to live with it. When a page gave no usable answer and the network itself is out (none of `probes` answers
    either), a limit of this machine was reached, or the summarizing model fails, the search FAILS: then nobody's choice
    is to blame, and the episode must not be trained on. `stats.failures` counts unreadable pages and failures alike, by
    kind.
    """

    def __init__(
        self,
        *,
        transport: Transport | None = None,
        read_timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        rate: Rate | None = None,
        budget: PageBudget | None = None,
        cache: DiskCache | None = None,
        summarizer: PageSummarizer | None = None,
        allow_private: bool = False,
        any_port: bool = False,
        probes: Sequence[str] = PROBES,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            transport: replaces the HTTP library, and with it the check of addresses.
            read_timeout: seconds of one attempt at one page.
            retry: attempts, waits and deadline of one page.
            rate: requests to one host, default `RATE`.
            budget: how much of a page is shown.
            cache: texts of pages found there are not fetched again.
            summarizer: tells what a page says, in place of its parts; its endpoint has its own retries.
            allow_private: whether pages of this machine and of private networks may be read, on any port.
            any_port: whether pages may be read on other ports than 80 and 443.
            probes: pages that tell an outage of the network from a page that is gone; without any, no failure to
                fetch a page is taken for an outage.
        """
        guard = None if allow_private else why_not_public
        self._transport = transport or web_transport(read_timeout=read_timeout, max_bytes=MAX_PAGE_BYTES, guard=guard)
        # The probes are named by the user, who may ask neighbours.
        self._probing = transport or web_transport(read_timeout=PROBE_TIMEOUT_S, max_bytes=MAX_PAGE_BYTES)
        self._limits = RateLimits(rate or RATE)
        self._fetcher = PageFetcher(self._transport, self._limits, any_port=any_port or allow_private)
        self._kept_as = "private page" if allow_private else "page"  # who may not read private pages finds none
        policy = retry or RetryPolicy()
        self._deadline_s, self._attempts = policy.deadline, Attempts(policy)
        self._budget, self._cache, self._summarizer = budget or PageBudget(), cache, summarizer
        self._probes, self._network_seen_at = tuple(probes), float("-inf")
        self._probed_at = float("-inf")
        self._probe_failures: tuple[str, ...] = ()
        self._probe_once: AskedOnce[None] = AskedOnce()
        self.stats = self._attempts.stats

    async def search(self, request: SearchRequest) -> Hits:
        """At most `request.top_k` parts of the page at `request.query`, best first; empty where it cannot be read.

        Raises:
            LimitReached: the page's host was asked too often, or too many pages were read, to come to this one in time.
            RetrieverError: the network is out, or the summarizing model fails past its retries.
        """
        url, started = request.query.strip(), time.monotonic()
        try:
            page = await self._page(url)
        except (RetrieverRejected, RetrieverBadResponse) as error:
            logger.info("page not read: %s", error)
            return ()
        except LimitReached:
            raise
        except RetrieverError as error:
            await self._check_network(since=started)
            logger.info("page not read: %s", error)
            return ()
        facts = RowFacts.of(request.context)
        question = facts.question if facts else ""
        if self._summarizer is not None:
            return await self._summary(self._summarizer, page, question)
        budget = self._budget
        return await asyncio.to_thread(
            choose_parts, page, question, top_k=request.top_k, part_chars=budget.part, budget_chars=budget.total
        )

    async def health(self, timeout: float = 10.0) -> Health:
        """Whether pages could be read. Raises RetrieverError, and ImportError without the library that reads them."""
        check_library()
        await self._probe(timeout)
        self._raise_if_out()
        if self._summarizer is not None:
            await self._summarizer.check(timeout)
        return Health(READY, "pages", 0)

    async def close(self) -> None:
        """Release the running event loop's connections, and the cache's file."""
        await self._transport.close()
        await self._probing.close()
        if self._summarizer is not None:
            await self._summarizer.close()
        if self._cache is not None:
            self._cache.close()

    async def _page(self, url: str) -> PageText:
        host, give_up_at = self._fetcher.host_of(url), time.monotonic() + self._deadline_s
        key = cache_key((self._kept_as, url))
        known = await self._known(key)
        if known is not None:
            return known

        def left() -> float:
            return max(give_up_at - time.monotonic(), 0.001)

        page = await self._attempts.run(
            lambda _, limit_s: self._read(url, min(limit_s, left())), turn=lambda: self._limits.turn(host, left())
        )
        if self._cache is not None:
            await self._cache.put(key, bodies.dump(astuple(page)))
        return page

    async def _known(self, key: str) -> PageText | None:
        kept = None if self._cache is None else await self._cache.get(key)
        if kept is None:
            return None
        try:
            url, title, text = map(str, bodies.as_list(bodies.load(kept), "of a page's fields"))
        except ValueError:  # kept by another version
            return None
        return PageText(url, title, text)

    async def _read(self, url: str, limit_s: float) -> PageText:
        give_up_at = time.monotonic() + limit_s
        raw = await self._fetcher.fetch(url, limit_s)
        self._network_seen_at = time.monotonic()
        return await read_page(raw, max(give_up_at - self._network_seen_at, 0.001))

    async def _summary(self, summarizer: PageSummarizer, page: PageText, question: str) -> Hits:
        text = await summarizer.summarize(page, question)
        return (Hit(Passage(f"{page.url}#1", page.title, text), 1.0),) if text else ()

    async def _check_network(self, *, since: float) -> None:
        """Raise RetrieverUnavailable unless some page has answered since then, or a probe of late or now.

        The state of the network is remembered for `NETWORK_STATE_S` seconds, and asked for once at a time: a model
        that makes up hosts must not flood the probes.
        """
        if self._network_seen_at >= since or not self._probes:
            return
        if time.monotonic() - self._probed_at >= NETWORK_STATE_S:
            await self._probe_once.ask("network", lambda: self._probe(PROBE_TIMEOUT_S))
        self._raise_if_out()

    def _raise_if_out(self) -> None:
        if self._probe_failures:
            seen = "; ".join(self._probe_failures)
            raise RetrieverUnavailable(f"no web page can be reached: the network is out ({seen})")

    async def _probe(self, timeout: float) -> None:
        """Note whether some probe answers, in whatever way."""
        failures: list[str] = []
        for probe in self._probes:
            try:
                await self._probing.send("GET", probe, None, timeout)
            except RetrieverError as error:
                # What cannot be used is of a size or shape that only a living host gives.
                if not isinstance(error, RetrieverBadResponse):
                    failures.append(str(error))
                    continue
            failures.clear()
            break
        self._probed_at, self._probe_failures = time.monotonic(), tuple(failures)


class SearchAndRead:
    """Searches the web, and answers with what the best readable page says.

    Published: the first three links are tried in turn, the first page that loads is cut to 35,000 characters and
    summarized (`pages:?summary=...`), and a summary that finds nothing is shown as the word None. Here a page without
    anything to show makes room for the next one.
    """

    def __init__(self, search: Source, pages: Source) -> None:
        """Prepare: `search` gives passages whose ids are addresses, `pages` reads one."""
        self._search, self._pages = search, pages

    async def search(self, request: SearchRequest) -> Hits:
        """Parts of one page; empty where none of those found can be read. Raises RetrieverError as the two do."""
        for hit in await self._search.search(replace(request, top_k=TRIED_PAGES)):
            parts = await self._pages.search(replace(request, query=hit.passage.id))
            if parts:
                return parts
        return ()

    async def health(self) -> Health:
        """Whether both are ready. Raises RetrieverError."""
        searched, read = await self._search.health(), await self._pages.health()
        return Health(READY, f"{searched.index}+{read.index}", 0)

    async def close(self) -> None:
        """Close both."""
        await self._search.close()
        await self._pages.close()
