"""The load generator counts right, and the benchmark over it runs from start to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.services.search_servers import TOWNS, serve

from benchmarks.retriever.http_load import Load, LoadFailed, http_request, load
from retriever.index.bm25 import Bm25Index
from retriever.wire.bodies import Ask
from retriever.wire.formats import FORMATS

OWN = FORMATS["own"]


@pytest.fixture(scope="module")
def served_url() -> Iterator[str]:
    with serve(Bm25Index.build(TOWNS)) as url:
        yield url


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


def test_a_hang_up_ends_the_load():
    async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}")
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(half_an_answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await load(url, requests("q"), callers=2, seconds=5)

    with pytest.raises(LoadFailed, match="hung up"):
        asyncio.run(scenario())


def test_loads_add_up():
    whole = Load(2, 1.0, [0.001, 0.003], 0.1) + Load(2, 3.0, [0.002, 0.002], 0.3)
    assert (whole.per_second, whole.mean_ms, whole.percentile_ms(50)) == (1.0, 2.0, 2.0)
    assert whole.processor_seconds == pytest.approx(0.4)


@pytest.mark.slow
def test_the_throughput_benchmark(corpus, benchmark_result):
    flags = ("--corpus", corpus, "--encoder", "hashing", "--seconds", 1, "--rounds", 2, "--callers", 8)
    result = benchmark_result("benchmarks.retriever", *flags)
    assert result["ratio_to_per_request"] > 0 and result["ratio_to_encoder_limit"] > 0
    assert result["cached"]["per_second"] > 0 and {"per_request", "ours"} <= set(result["latency_one_caller_ms"])
