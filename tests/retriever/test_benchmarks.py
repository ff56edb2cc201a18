"""The load generator counts right, and both benchmarks run from start to end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter

import pytest

from benchmarks.retriever.http_load import Load, LoadFailed, http_request, load
from benchmarks.retriever_soak import Memory, Soak
from retriever.index.corpus import write_corpus
from retriever.passage import Passage
from retriever.wire.bodies import Ask
from retriever.wire.formats import FORMATS

OWN = FORMATS["own"]


def requests(*queries: str) -> list[bytes]:
    return [http_request(OWN.path, OWN.encode_request(Ask((query,), 1))) for query in queries]


def test_the_load_is_counted(served_url):
    seen = asyncio.run(load(served_url, requests("paris", "spirit"), callers=3, seconds=0.2))
    assert seen.callers == 3 and seen.seconds >= 0.2 and len(seen.latencies) >= 3
    assert all(latency > 0 for latency in seen.latencies) and seen.processor_seconds > 0
    assert seen.per_second == len(seen.latencies) / seen.seconds


def test_a_refusal_ends_the_load(served_url):
    with pytest.raises(LoadFailed, match="expected a 200, found b'HTTP/1.1 404"):
        asyncio.run(load(served_url, [http_request("/nowhere", b"{}")], callers=2, seconds=5))


def test_a_hang_up_ends_the_load(scripted_server, http_reply):
    async def scenario() -> None:
        server = scripted_server(http_reply(200, b"{}", length=1000))
        async with server.running():
            await load(server.url, requests("q"), callers=2, seconds=5)

    with pytest.raises(LoadFailed, match="hung up"):
        asyncio.run(scenario())


def test_loads_add_up():
    whole = Load(2, 1.0, [0.001, 0.003], 0.1) + Load(2, 3.0, [0.002, 0.002], 0.3)
    assert (whole.per_second, whole.mean_ms, whole.percentile_ms(50)) == (1.0, 2.0, 2.0)
    assert whole.processor_seconds == pytest.approx(0.4)


def test_growth_leaves_the_warm_up_out():
    life = Memory(time.monotonic())
    life.samples = [(second, 50.0 + 10 * min(second, 20)) for second in range(20)]
    assert life.growth == 0.0
    life.samples += [(20.0 + second, 300.0 + second) for second in range(10)]
    assert life.growth == 7.0


def test_percentiles_of_a_soak():
    soak = Soak(answered=100, latencies_ms=Counter({1: 90, 5: 9, 700: 1}))
    assert [soak.percentile_ms(share) for share in (0.5, 0.99, 1.0)] == [1, 5, 700]


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "passages.jsonl"
    write_corpus(file, [Passage(str(i), f"Title {i}", f"text number {i} " + "word " * (i % 30)) for i in range(300)])
    return file


def run_benchmark(module: str, tmp_path, *flags: object) -> dict:
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", module, *map(str, flags), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())


@pytest.mark.slow
def test_the_throughput_benchmark(corpus, tmp_path):
    flags = ("--corpus", corpus, "--encoder", "hashing", "--seconds", 1, "--rounds", 2, "--callers", 8)
    result = run_benchmark("benchmarks.retriever", tmp_path, *flags)
    assert result["ratio_to_per_request"] > 0 and result["ratio_to_encoder_limit"] > 0
    assert result["cached"]["per_second"] > 0 and {"per_request", "ours"} <= set(result["latency_one_caller_ms"])


@pytest.mark.slow
def test_a_short_soak(corpus, tmp_path):
    flags = ("--corpus", corpus, "--minutes", 0.3, "--kill-every", 4, "--down", 0.5, "--callers", 16)
    result = run_benchmark("benchmarks.retriever_soak", tmp_path, *flags)
    assert result["failed"] == 0 and result["kills"] >= 1 and result["answered"] > 100 and result["memory_flat"]
