"""Disk, memory and time of an index, and of its searches, before anything is built.

    python -m retriever.plan --passages 30000000 --dim 768 --index Flat SQ8 HNSW32 IVF4096,PQ64 --rate 4000
    python -m retriever.plan --corpus STORE --encoder e5-base-v2 --index IVF4096,PQ64

Small samples are built on this machine, as busy as it is now, and extrapolated. Time to encode comes from `--rate`
(passages per second), or from encoding a few passages where an encoder is named; else it is left out. Exit statuses: 0
done; 2 bad input, with one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from foundation.cli import OneLineParser, above_zero, expected, positive, run_command
from foundation.files import write_json
from foundation.text_table import format_table
from retriever.build.costs import SEARCHED, Costs, measure_index
from retriever.index.encoder import add_encoder_options, load_encoder
from retriever.index.store import PassageStore, open_corpus

_PASSAGE_BYTES = 640
"""A 100-word English passage with id and title."""
_SAMPLE_PASSAGE = "Passage title " + "word " * 100
_RATE_SAMPLE = 64
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of one index over a corpus."""

    index: str
    passages: int
    corpus_gb: float
    embeddings_gb: float
    """float32 on disk; half of it with --vector-dtype float16, nothing after --drop-embeddings."""
    index_gb: float
    """On disk, and in memory once searches have touched all of it."""
    build_memory_gb: float
    encode_hours: float | None
    train_hours: float
    add_hours: float
    search_s: float
    """Of a batch of `retriever.build.costs.SEARCHED` queries on this machine, without encoding them."""


def estimate(costs: Costs, passages: int, rate: float | None, passage_bytes: float = _PASSAGE_BYTES) -> Estimate:
    """Extrapolate to a number of passages; `rate` in passages per second."""
    return Estimate(
        costs.factory,
        passages,
        passages * passage_bytes / _GB,
        passages * costs.dim * 4 / _GB,
        costs.index_bytes(passages) / _GB,
        costs.build_bytes(passages) / _GB,
        passages / rate / 3600 if rate else None,
        costs.train_s(passages) / 3600,
        costs.add_s(passages) / 3600,
        costs.search_s(passages),
    )


def encoding_rate(
    name: str, path: str | None, device: str | None, *, trust_remote_code: bool = False
) -> tuple[float, int]:
    """Passages per second of an encoder on this machine's device, and its dimension."""
    encoder = load_encoder(name, path, device=device, trust_remote_code=trust_remote_code)
    texts = [f"{number} {_SAMPLE_PASSAGE}" for number in range(_RATE_SAMPLE)]
    encoder.encode_passages(texts[:8])
    started = time.perf_counter()
    encoder.encode_passages(texts)
    return len(texts) / (time.perf_counter() - started), encoder.dim


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the server has it, before faiss is imported
    return run_command("retriever.plan", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with expected(ValueError, OSError, ImportError):
        found = _estimates(options)
        if options.json is not None:
            write_json(options.json, {"estimates": [asdict(each) for each in found]})
    print(_table(found))


def _estimates(options: argparse.Namespace) -> list[Estimate]:
    if (options.passages is None) == (options.corpus is None):
        raise ValueError("give either --passages or --corpus")
    passage_bytes: float = _PASSAGE_BYTES
    if options.corpus is not None:
        corpus = open_corpus(options.corpus)
        options.passages = len(corpus)
        if isinstance(corpus, PassageStore):
            passage_bytes = corpus.bytes / len(corpus)
    rate, dim = options.rate, options.dim
    if options.encoder is not None:
        measured, dim = encoding_rate(
            options.encoder, options.encoder_path, options.device, trust_remote_code=options.trust_remote_code
        )
        rate = rate or measured
    if dim is None:
        raise ValueError("give --dim, or --encoder to measure it")
    with tqdm(options.index, desc="sample", unit=" index") as factories:  # the bar ends before an error's line
        costs = [measure_index(factory, dim, options.passages, budget_s=options.budget) for factory in factories]
    return [estimate(each, options.passages, rate, passage_bytes) for each in costs]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="retriever.plan", description="What an index will cost.", allow_abbrev=False)
    add = parser.add_argument
    add("--passages", type=positive, metavar="N", help="size of the corpus")
    add("--corpus", type=Path, help="passage store or JSONL, instead of --passages")
    add("--dim", type=positive, help="size of the vectors (bge-large-en-v1.5: 1024, e5-base-v2: 768, MiniLM: 384)")
    add("--index", nargs="+", required=True, metavar="FACTORY", help="faiss factory strings")
    add("--rate", type=above_zero, metavar="PER_S", help="passages encoded per second, all GPUs together")
    add("--encoder", metavar="NAME", help="measure the rate and the dimension of this encoder here")
    add_encoder_options(add)
    add("--budget", type=above_zero, default=20.0, metavar="S", help="time for each sample in s (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the estimates there, too")
    return parser


def _table(found: Sequence[Estimate]) -> str:
    heads = (
        "index",
        "corpus GB",
        "vectors GB",
        "index GB",
        "build RAM GB",
        "encode h",
        "train h",
        "add h",
        f"{SEARCHED} queries s",
    )
    rows = [
        (
            each.index,
            *(f"{value:.2f}" for value in (each.corpus_gb, each.embeddings_gb, each.index_gb, each.build_memory_gb)),
            *(
                "?" if value is None else f"{value:.2f}"
                for value in (each.encode_hours, each.train_hours, each.add_hours)
            ),
            f"{each.search_s:.3g}",
        )
        for each in found
    ]
    return f"{found[0].passages:,} passages\n{format_table(heads, rows)}"


if __name__ == "__main__":
    sys.exit(main())
