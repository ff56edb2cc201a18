"""Queries of concurrent callers, searched together.

Encoding is nearly all of a dense search's cost, and an encoder does 32 queries in far less than 32 times the time
of one. So while one batch is being searched, the next one gathers; only then does a query wait for company: an idle
batcher searches a single one at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachetools import LRUCache

from retriever.errors import RetrieverError
from retriever.passage import Hits
from retriever.server.metrics import ServerMetrics

logger = logging.getLogger(__name__)

_SMALL_BATCH = 8
"""Queries that are not worth being shared among workers."""

Search = Callable[[Sequence[str], int], list[Hits]]
"""Queries and top_k to one `Hits` per query."""


class SearchFailed(Exception):
    """The index raised on a query; the log has its traceback."""


class Overloaded(Exception):
    """More queries wait than may."""


class NotReady(Exception):
    """Searches are not taken yet, or not any more; the same one may work a little later, or elsewhere."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is searched at once. Queries, unless said otherwise."""

    max_batch: int = 128
    """Most queries in one search."""
    max_waiting: int = 16384
    """Most queries waiting; callers beyond are refused."""
    workers: int = 2
    """Batches searched at the same time: with two, one is searched while the answers of the other go out."""

    def __post_init__(self) -> None:
        """Raise ValueError for limits under which nothing could be searched."""
        if min(self.max_batch, self.max_waiting, self.workers) < 1:
            raise ValueError(f"expected max_batch, max_waiting and workers of at least 1, found {self}")


class _Key(NamedTuple):
    """The key of an answer: everything that it depends on."""

    query: str
    top_k: int


class _Caller:
    """A waiting thread. Its lock is held until its last job is done: the cheapest way to wake one thread."""

    __slots__ = ("done", "missing")

    def __init__(self, missing: int) -> None:
        self.missing = missing
        self.done = threading.Lock()
        self.done.acquire()


@dataclass(slots=True, eq=False)
class _Job:
    """One query under way, however many callers asked for it."""

    key: _Key
    callers: list[_Caller] = field(default_factory=list)
    hits: Hits | None = None
    error: Exception | None = None


class QueryBatcher:
    """Searches an index for many threads at once; equal queries run once, recent answers come from a cache.

    A batch holds queries of one `top_k` only: an approximate or fused index may rank differently for a larger one, and
    an answer must not depend on who else was asking. A batch that fails is searched again query by query, so that
    one query that the index cannot take fails its own caller only; an outside failure (`RetrieverError`) fails the
    batch.
    """

    def __init__(
        self,
        search: Search,
        *,
        limits: BatchLimits | None = None,
        cache_size: int = 0,
        metrics: ServerMetrics | None = None,
    ) -> None:
        """Start the worker threads.

        Args:
            search: must be safe in `limits.workers` threads at once.
            cache_size: answers kept, the least recently used one dropped first; 0 for none.
            metrics: counts queries and batches.

        Raises:
            ValueError: a cache size below 0.
        """
        if cache_size < 0:
            raise ValueError(f"a cache holds 0 answers or more, found a size of {cache_size}")
        self._search, self._limits = search, limits or BatchLimits()
        self._cache: LRUCache[_Key, Hits] | None = LRUCache(cache_size) if cache_size else None
        self._metrics = metrics or ServerMetrics()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._jobs: dict[_Key, _Job] = {}
        self._queues: dict[int, deque[_Job]] = {}
        self._waiting = 0
        self._closed = False
        for number in range(self._limits.workers):
            threading.Thread(target=self._work, name=f"search-{number}", daemon=True).start()

    def search(self, queries: Sequence[str], top_k: int) -> list[Hits]:
        """Result i answers query i; waits until the last one is there.

        Raises:
            SearchFailed: the index raised on one of the queries.
            RetrieverError: an outside failure of the index.
            Overloaded: too many queries wait; none of these was taken.
            NotReady: after `close`.
        """
        keys = [_Key(query, top_k) for query in queries]
        found: dict[_Key, Hits] = {}
        with self._lock:
            if self._closed:
                raise NotReady("the service is stopping")
            if self._cache is not None:
                found = {key: hits for key in keys if (hits := self._cache.get(key)) is not None}
            wanted = [key for key in dict.fromkeys(keys) if key not in found]
            new = [key for key in wanted if key not in self._jobs]
            if self._waiting + len(new) > self._limits.max_waiting:
                raise Overloaded(f"{self._waiting} queries wait already, of at most {self._limits.max_waiting}")
            cached = sum(key in found for key in keys)
            self._metrics.asked(len(new), len(keys) - cached - len(new), cached)
            self._enqueue(new, top_k)
            jobs = [self._jobs[key] for key in wanted]
            caller = _Caller(len(jobs))
            for job in jobs:
                job.callers.append(caller)
        if jobs:
            caller.done.acquire()
        for job in jobs:
            if job.error is not None:
                raise job.error
            assert job.hits is not None
            found[job.key] = job.hits
        return [found[key] for key in keys]

    def close(self) -> None:
        """Take nothing more, and let the workers end once nothing waits."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _enqueue(self, keys: Sequence[_Key], top_k: int) -> None:
        for key in keys:
            self._jobs[key] = job = _Job(key)
            self._queues.setdefault(top_k, deque()).append(job)
        self._waiting += len(keys)
        self._metrics.waiting(self._waiting)
        self._changed.notify(len(keys))

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            self._run(batch)
            self._finish(batch, time.perf_counter() - started)

    def _next_batch(self) -> list[_Job]:
        """The next jobs of one `top_k`, waiting for them; none when the batcher is closed."""
        with self._lock:
            while not self._is_worthwhile():
                if self._closed and not self._queues:
                    return []
                self._changed.wait()
            top_k = next(iter(self._queues))
            queue = self._queues.pop(top_k)
            # No more than its share: a worker that takes all would leave the next one a single query to search.
            share = max(_SMALL_BATCH, -(-len(self._jobs) // self._limits.workers))
            batch = [queue.popleft() for _ in range(min(len(queue), share, self._limits.max_batch))]
            if queue:
                self._queues[top_k] = queue  # after the others: every top_k gets its turn
            self._waiting -= len(batch)
            self._metrics.waiting(self._waiting)
            return batch

    def _is_worthwhile(self) -> bool:
        """Whether to search what waits: at once when idle; else once it is as much as another worker's batch.

        The first callers of the last batch come back one by one, and each alone would be a slow batch.
        """
        searched = len(self._jobs) - self._waiting
        return bool(self._queues) and self._waiting * (self._limits.workers - 1) >= searched

    def _run(self, batch: Sequence[_Job]) -> None:
        """Give every job its hits or its error."""
        try:
            results = self._search([job.key.query for job in batch], batch[0].key.top_k)
            if len(results) != len(batch):
                raise RuntimeError(f"the index gave {len(results)} results for {len(batch)} queries")
            for job, hits in zip(batch, results, strict=True):
                job.hits = hits
        except RetrieverError as error:
            for job in batch:
                job.error = error
        except Exception as error:
            if len(batch) > 1:
                logger.warning(
                    "a batch of %d failed with %s; searching its queries one by one", len(batch), type(error).__name__
                )
                for job in batch:
                    self._run([job])
            else:
                logger.exception("a search failed")
                batch[0].error = SearchFailed(type(error).__name__)

    def _finish(self, batch: Sequence[_Job], seconds: float) -> None:
        with self._lock:
            self._metrics.batch(len(batch), seconds)
            for job in batch:
                del self._jobs[job.key]
                if self._cache is not None and job.hits is not None:
                    self._cache[job.key] = job.hits
                for caller in job.callers:
                    caller.missing -= 1
                    if not caller.missing:
                        caller.done.release()
            self._changed.notify_all()
