"""Two replicas under load, one of them killed and started again every minute: no search may fail, no memory may grow.

`python -m benchmarks.retriever_soak --corpus passages.jsonl [--minutes 10] [--callers 64] [--json FILE]`

The callers search through one `HttpRetriever` over both addresses, as the episodes of a training step do. Exit code 1
where a search failed or memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from benchmarks.retriever.server_process import ServerProcess
from foundation.cli import OneLineParser, run_command
from foundation.files import write_json
from foundation.http import HttpLimits
from foundation.process import bind
from retriever.client.http_retriever import HttpRetriever
from retriever.errors import RetrieverError
from retriever.index.corpus import read_corpus
from retriever.passage import Passage, SearchRequest

_WARM_UP_S = 20.0
"""Of a process's life; what it takes then (caches, threads, pools) is not growth."""
_GROWTH_MB = 32.0
"""Growth beyond that is called a leak."""


@dataclass
class Memory:
    """Resident memory over the life of one process."""

    started: float
    samples: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, MB."""

    def sample(self, pid: int) -> None:
        """Measure now."""
        megabytes = psutil.Process(pid).memory_info().rss / 2**20
        self.samples.append((time.monotonic() - self.started, megabytes))

    @property
    def growth(self) -> float:
        """MB between the end of the warm-up and the end, medians of three samples; 0 for a short life."""
        warm = [megabytes for second, megabytes in self.samples if second >= _WARM_UP_S]
        return 0.0 if len(warm) < 6 else sorted(warm[-3:])[1] - sorted(warm[:3])[1]


@dataclass
class Soak:
    """The measurements so far."""

    answered: int = 0
    latencies_ms: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    client: Memory = field(default_factory=lambda: Memory(time.monotonic()))
    servers: list[Memory] = field(default_factory=list)

    def percentile_ms(self, share: float) -> int:
        """Latency, in whole milliseconds, that this share of the searches did not exceed."""
        seen = 0
        for latency in sorted(self.latencies_ms):
            seen += self.latencies_ms[latency]
            if seen >= share * self.answered:
                return latency
        return 0


async def call(retriever: HttpRetriever, queries: Iterator[str], top_k: int, soak: Soak, stop: asyncio.Event) -> None:
    """One caller: search after search."""
    while not stop.is_set():
        started = time.perf_counter()
        try:
            await retriever.search(SearchRequest(next(queries), top_k))
        except RetrieverError as error:
            soak.failures[f"{error.kind}: {error}"[:200]] += 1
            continue
        soak.answered += 1
        soak.latencies_ms[round(1000 * (time.perf_counter() - started))] += 1


async def disturb(replicas: Sequence[ServerProcess], soak: Soak, options: argparse.Namespace) -> None:
    """Until the time is over: measure every second, kill a replica every minute, start it again."""
    loop, turns = asyncio.get_running_loop(), itertools.cycle(range(len(replicas)))
    lives = [Memory(time.monotonic()) for _ in replicas]
    soak.servers += lives
    ends_at, next_kill = time.monotonic() + 60 * options.minutes, time.monotonic() + options.kill_every / 2
    with tqdm(total=round(60 * options.minutes), desc="soak", unit="s") as bar:
        while time.monotonic() < ends_at:
            await asyncio.sleep(1.0)
            bar.update()
            bar.set_postfix(answered=soak.answered, failed=soak.failures.total(), kills=soak.kills)
            soak.client.sample(os.getpid())
            for replica, life in zip(replicas, lives, strict=True):
                if replica.pid is not None:
                    life.sample(replica.pid)
            # Where starting takes long, the other one is waited for: nothing can answer when both are down.
            if time.monotonic() >= next_kill and all(replica.is_ready for replica in replicas):
                next_kill = time.monotonic() + options.kill_every
                number = next(turns)
                await loop.run_in_executor(None, _restart, replicas[number], options.down)
                lives[number] = Memory(time.monotonic())
                soak.servers.append(lives[number])
                soak.kills += 1


def _restart(replica: ServerProcess, down_seconds: float) -> None:
    replica.kill()
    time.sleep(down_seconds)
    replica.start()


async def run(replicas: Sequence[ServerProcess], queries: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """The whole soak, on servers that are up."""
    soak, stop = Soak(), asyncio.Event()
    stream = itertools.cycle(queries)
    urls = ",".join(replica.wait() for replica in replicas)
    async with HttpRetriever(urls, limits=HttpLimits(read_timeout=20.0)) as retriever:
        callers = [call(retriever, stream, options.top_k, soak, stop) for _ in range(options.callers)]
        tasks = [asyncio.ensure_future(each) for each in callers]
        await disturb(replicas, soak, options)
        stop.set()
        await asyncio.gather(*tasks)
        stats = retriever.stats.snapshot()
    growths = [life.growth for life in soak.servers]
    return {
        "answered": soak.answered,
        "failed": soak.failures.total(),
        "failures": dict(soak.failures.most_common(10)),
        "retries": stats.retries,
        "kills": soak.kills,
        "per_second": soak.answered / (60 * options.minutes),
        "p50_ms": soak.percentile_ms(0.5),
        "p99_ms": soak.percentile_ms(0.99),
        "slowest_ms": max(soak.latencies_ms, default=0),
        "client_mb": [
            round(megabytes) for _, megabytes in soak.client.samples[:: max(1, len(soak.client.samples) // 20)]
        ],
        "client_growth_mb": round(soak.client.growth, 1),
        "server_growth_mb": [round(growth, 1) for growth in growths],
        "memory_flat": max(soak.client.growth, *growths) <= _GROWTH_MB,
        "minutes": options.minutes,
        "callers": options.callers,
    }


def queries_of(passages: Sequence[Passage]) -> list[str]:
    """A query per passage, its title and first words, in an order of chance."""
    queries = [" ".join([passage.title, *passage.text.split()[:8]]) for passage in passages]
    random.Random(0).shuffle(queries)
    return queries


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.retriever_soak", description=__doc__)
    parser.add_argument("--corpus", required=True, type=Path, help="JSONL with id, title, text")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--kill-every", type=float, default=60.0, metavar="S")
    parser.add_argument(
        "--down", type=float, default=3.0, metavar="S", help="seconds between a kill and the next start"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    return run_command("benchmarks.retriever_soak", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    queries = queries_of(read_corpus(options.corpus))
    replicas = []
    for _ in range(2):
        with bind("127.0.0.1", 0) as free:  # each keeps its port over restarts
            port = free.getsockname()[1]
        flags = ("--corpus", options.corpus, "--port", port, "--exit-with-parent", os.getpid())
        replicas.append(ServerProcess("retriever.server", *flags))
    try:
        for replica in replicas:
            replica.start()
        result = asyncio.run(run(replicas, queries, options))
    finally:
        for replica in replicas:
            replica.kill()
    print(json.dumps(result, indent=2))
    if options.json:
        write_json(options.json, result)
    return 0 if result["memory_flat"] and not result["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
