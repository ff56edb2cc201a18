"""Batches: nothing waits when idle, concurrent callers share a search, equal queries run once, failures stay apart."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import Hit, Passage, RetrieverUnavailable
from retriever.server.batching import BatchLimits, NotReady, Overloaded, QueryBatcher, SearchFailed
from retriever.server.metrics import ServerMetrics

EXACT = st.sampled_from([1, 2, 3])


def hits_of(query: str, top_k: int):
    return tuple(Hit(Passage(f"{query}/{rank}", "", query), -float(rank)) for rank in range(top_k))


class GatedIndex:
    """Searches only while its gate is open; records every batch."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def search(self, queries, top_k):
        self.batches.append((list(queries), top_k))
        self.entered.release()
        assert self.gate.wait(10)
        if "poison" in queries:
            raise KeyError("poison")
        if "outage" in queries:
            raise RetrieverUnavailable("the database is away")
        return [hits_of(query, top_k) for query in queries]


@dataclass
class Counts:
    """What a batcher's metrics say, as a monitor reads them."""

    metrics: ServerMetrics = field(default_factory=ServerMetrics)

    @property
    def waiting(self) -> int:
        return self._value("retriever_waiting_queries")

    @property
    def total(self) -> list[int]:
        """Queries searched, joined to an equal one, answered from the cache."""
        ways = ("by a search", "with an equal one", "from the cache")
        return [self._value(f'retriever_queries_total{{answered="{way}"}}') for way in ways]

    @property
    def batches(self) -> tuple[int, int]:
        """Searches of the index, and queries in them."""
        return self._value("retriever_batch_queries_count"), self._value("retriever_batch_queries_sum")

    def _value(self, name: str) -> int:
        lines = self.metrics.render().decode().splitlines()
        return int(float(next(line for line in lines if line.startswith(name + " ")).rsplit(" ", 1)[1]))


ONE_AT_A_TIME = BatchLimits(workers=1)


@pytest.fixture
def index() -> GatedIndex:
    return GatedIndex()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as threads:
        yield threads


def wait_until(condition) -> None:
    give_up_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def test_an_idle_batcher_searches_at_once(index):
    batcher = QueryBatcher(index.search)
    assert batcher.search(["a"], 2) == [hits_of("a", 2)]
    assert batcher.search([], 2) == []
    assert index.batches == [(["a"], 2)]


def test_what_arrives_during_a_search_is_the_next_batch(index, pool):
    counts = Counts()
    batcher = QueryBatcher(index.search, limits=ONE_AT_A_TIME, metrics=counts.metrics)
    index.gate.clear()
    first = pool.submit(batcher.search, ["first"], 1)
    index.entered.acquire()
    rest = [pool.submit(batcher.search, [f"q{i}"], 1) for i in range(40)]
    wait_until(lambda: counts.waiting == 40)
    index.gate.set()
    assert first.result(10) == [hits_of("first", 1)]
    assert [each.result(10) for each in rest] == [[hits_of(f"q{i}", 1)] for i in range(40)]
    assert (
        [len(queries) for queries, _ in index.batches] == [1, 40]
        and counts.batches == (2, 41)
        and counts.total == [41, 0, 0]
    )


def test_a_batch_is_bounded_and_no_top_k_starves(index, pool):
    limits, counts = BatchLimits(max_batch=4, workers=1), Counts()
    batcher = QueryBatcher(index.search, limits=limits, metrics=counts.metrics)
    index.gate.clear()
    jobs = [pool.submit(batcher.search, ["first"], 1)]
    index.entered.acquire()
    jobs.append(pool.submit(batcher.search, [f"three{i}" for i in range(9)], 3))
    wait_until(lambda: counts.waiting == 9)
    jobs.append(pool.submit(batcher.search, ["five"], 5))
    wait_until(lambda: counts.waiting == 10)
    index.gate.set()
    assert [len(job.result(10)) for job in jobs] == [1, 9, 1]
    assert [(len(queries), top_k) for queries, top_k in index.batches] == [(1, 1), (4, 3), (1, 5), (4, 3), (1, 3)]


def test_equal_queries_run_once(index, pool):
    counts = Counts()
    batcher = QueryBatcher(index.search, limits=ONE_AT_A_TIME, metrics=counts.metrics)
    index.gate.clear()
    same = [pool.submit(batcher.search, ["same", "same"], 2) for _ in range(10)]
    index.entered.acquire()
    wait_until(lambda: sum(counts.total) == 20)
    index.gate.set()
    assert [each.result(10) for each in same] == [[hits_of("same", 2)] * 2] * 10
    assert index.batches == [(["same"], 2)] and counts.total == [1, 19, 0]


def test_another_top_k_is_another_search(index):
    batcher = QueryBatcher(index.search, cache_size=10)
    assert [len(batcher.search(["a"], top_k)[0]) for top_k in (3, 1, 3)] == [3, 1, 3]
    assert index.batches == [(["a"], 3), (["a"], 1)]


def test_a_cached_answer_is_not_searched_again(index):
    counts = Counts()
    batcher = QueryBatcher(index.search, limits=ONE_AT_A_TIME, cache_size=2, metrics=counts.metrics)
    for queries in (["a"], ["b"], ["a", "c"], ["a"], ["b"]):
        batcher.search(queries, 1)
    assert [queries for queries, _ in index.batches] == [["a"], ["b"], ["c"], ["b"]]
    assert counts.total == [4, 0, 2]


def test_a_poisonous_query_fails_alone(index, pool, caplog):
    counts = Counts()
    batcher = QueryBatcher(index.search, limits=ONE_AT_A_TIME, cache_size=10, metrics=counts.metrics)
    index.gate.clear()
    first = pool.submit(batcher.search, ["first"], 1)
    index.entered.acquire()
    good, bad = pool.submit(batcher.search, ["good"], 1), pool.submit(batcher.search, ["poison", "fine"], 1)
    wait_until(lambda: counts.waiting == 3)
    index.gate.set()
    assert first.result(10) and good.result(10) == [hits_of("good", 1)]
    with pytest.raises(SearchFailed, match="KeyError"):
        bad.result(10)
    assert batcher.search(["fine"], 1) and "one by one" in caplog.text
    with pytest.raises(SearchFailed):  # a failure is not remembered as an answer
        batcher.search(["poison"], 1)


def test_an_outside_failure_keeps_its_type_and_is_not_repeated(index):
    batcher = QueryBatcher(index.search, limits=ONE_AT_A_TIME)
    with pytest.raises(RetrieverUnavailable, match="database"):
        batcher.search(["a", "outage"], 1)
    assert len(index.batches) == 1


def test_a_wrong_number_of_results_is_a_failure():
    batcher = QueryBatcher(lambda queries, top_k: [])
    with pytest.raises(SearchFailed, match="RuntimeError"):
        batcher.search(["a"], 1)


def test_too_many_waiting_queries_are_refused(index, pool):
    counts = Counts()
    batcher = QueryBatcher(index.search, limits=BatchLimits(max_waiting=2, workers=1), metrics=counts.metrics)
    index.gate.clear()
    first = pool.submit(batcher.search, ["first"], 1)
    index.entered.acquire()
    second = pool.submit(batcher.search, ["a", "b"], 1)
    wait_until(lambda: counts.waiting == 2)
    with pytest.raises(Overloaded, match="2 queries wait"):
        batcher.search(["c"], 1)
    index.gate.set()
    assert first.result(10) and second.result(10) and batcher.search(["c"], 1)


def test_several_workers_search_at_the_same_time(index, pool):
    batcher = QueryBatcher(index.search, limits=BatchLimits(workers=2))
    index.gate.clear()
    jobs = []
    for query in "ab":  # the second is asked once the first is being searched, or both would make one batch
        jobs.append(pool.submit(batcher.search, [query], 1))
        assert index.entered.acquire(timeout=10)
    index.gate.set()
    assert all(job.result(10) for job in jobs)


def test_no_worker_takes_more_than_its_share(index, pool):
    counts = Counts()
    batcher = QueryBatcher(index.search, limits=BatchLimits(workers=2), metrics=counts.metrics)
    index.gate.clear()
    jobs = []
    for query in ("first", "second"):
        jobs.append(pool.submit(batcher.search, [query], 1))
        assert index.entered.acquire(timeout=10)
    jobs += [pool.submit(batcher.search, [f"q{i}"], 1) for i in range(40)]
    wait_until(lambda: counts.waiting == 40)
    index.gate.set()
    assert all(job.result(10) for job in jobs)
    sizes = [len(queries) for queries, _ in index.batches]
    assert sum(sizes) == 42 and max(sizes) <= 21


def test_a_closed_batcher_finishes_what_it_has(index, pool):
    counts = Counts()
    batcher = QueryBatcher(index.search, metrics=counts.metrics)
    index.gate.clear()
    jobs = [pool.submit(batcher.search, [query], 1) for query in "ab"]
    wait_until(lambda: counts.total == [2, 0, 0])
    batcher.close()
    with pytest.raises(NotReady):
        batcher.search(["c"], 1)
    index.gate.set()
    assert [job.result(10)[0][0].passage.text for job in jobs] == ["a", "b"]


@given(
    asked=st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), max_size=4), EXACT), max_size=12),
    cache_size=st.integers(0, 3),
    max_batch=st.integers(1, 3),
)
def test_every_caller_gets_its_own_answers(asked, cache_size, max_batch):
    batcher = QueryBatcher(
        lambda queries, top_k: [hits_of(query, top_k) for query in queries],
        limits=BatchLimits(max_batch=max_batch),
        cache_size=cache_size,
    )
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda each: batcher.search(*each), asked))
    batcher.close()
    assert answers == [[hits_of(query, top_k) for query in queries] for queries, top_k in asked]


def test_the_least_recently_used_answer_goes_first(index):
    batcher = QueryBatcher(index.search, limits=ONE_AT_A_TIME, cache_size=2)
    for query in "abacab":  # b, unused for longest, makes room for c
        batcher.search([query], 1)
    assert [queries for queries, _ in index.batches] == [["a"], ["b"], ["c"], ["b"]]


def test_wrong_limits(index):
    with pytest.raises(ValueError, match="0 answers or more"):
        QueryBatcher(index.search, cache_size=-1)
    with pytest.raises(ValueError, match="at least 1"):
        BatchLimits(max_batch=0)
