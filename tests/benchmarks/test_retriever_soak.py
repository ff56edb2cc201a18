"""The soak's numbers are right, and it runs from start to end."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from benchmarks.retriever_soak import Memory, Soak


def test_growth_leaves_the_warm_up_out():
    life = Memory(time.monotonic())
    life.samples = [(second, 50.0 + 10 * min(second, 20)) for second in range(20)]
    assert life.growth == 0.0
    life.samples += [(20.0 + second, 300.0 + second) for second in range(10)]
    assert life.growth == 7.0


def test_percentiles_of_a_soak():
    soak = Soak(answered=100, latencies_ms=Counter({1: 90, 5: 9, 700: 1}))
    assert [soak.percentile_ms(share) for share in (0.5, 0.99, 1.0)] == [1, 5, 700]


@pytest.mark.slow
def test_a_short_soak(corpus, benchmark_result):
    flags = ("--corpus", corpus, "--minutes", 0.3, "--kill-every", 4, "--down", 0.5, "--callers", 16)
    result = benchmark_result("benchmarks.retriever_soak", *flags)
    assert result["failed"] == 0 and result["kills"] >= 1 and result["answered"] > 100 and result["memory_flat"]
