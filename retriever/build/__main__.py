r"""Build a saved index for `python -m retriever.server --index`.

    python -m retriever.build --corpus STORE_OR_JSONL --backend bm25 --out DIR
    python -m retriever.build --corpus STORE --backend dense --encoder e5-base-v2 --factory IVF4096,PQ64 --out DIR
    python -m retriever.build --corpus STORE --backend milvus --encoder e5-base-v2 --milvus-uri http://host:19530 \
        --collection wiki --out DIR

Killed at any moment, the same command continues where it stopped and gives the same index. `python -m retriever.plan`
tells disk, memory and time beforehand. Exit statuses: 0 done; 2 bad input, 3 a Milvus that
does not answer, a full disk or a killed worker, with one line on stderr.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import TIMED, OneLineParser, expected, log_to_stderr, positive, run_command
from foundation.workers import cores
from retriever.build.embeddings import SHARD_SIZE
from retriever.build.steps import DensePlan, build_bm25, build_dense, build_hybrid
from retriever.index.backends import SAVED_BACKENDS
from retriever.index.corpus import doubts
from retriever.index.encoder import add_encoder_options, load_encoder
from retriever.index.faiss_vectors import SearchSettings
from retriever.index.sentence_encoder import DTYPES
from retriever.index.store import open_corpus
from retriever.passage import Passage

logger = logging.getLogger(__name__)

_SETTINGS = SearchSettings()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    log_to_stderr(TIMED)
    return run_command("retriever.build", lambda: _run(options), resumable=True)


def _run(options: argparse.Namespace) -> None:
    started = time.monotonic()
    with expected(ValueError, OSError, ImportError):
        _check(options)
        passages = open_corpus(options.corpus)
        for doubt in () if options.no_corpus_warnings else doubts(passages):
            logger.warning("%s", doubt)
        _build(options, passages)
    logger.info(
        "%s index of %d passages in %s, %.0f s", options.backend, len(passages), options.out, time.monotonic() - started
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="retriever.build", description="Build a saved index.", allow_abbrev=False)
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="a passage store (python -m data_prep.corpus), or a file")
    add("--no-corpus-warnings", action="store_true", help="no warnings of missing titles or odd first lines")
    add("--backend", choices=SAVED_BACKENDS, required=True)
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the index; a killed build continues")
    add("--processes", type=positive, default=cores(), help="processes that count words (%(default)s)")
    add(
        "--encoder",
        metavar="NAME",
        help="dense, hybrid, milvus: a name in retriever.index.encoder, or any other",
    )
    add_encoder_options(add, "torch device of the encoder; default: all GPUs, else the CPU")
    add(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="number format of the encoder's weights (auto: fp16 on GPUs, fp32 on CPUs)",
    )
    add("--factory", default="Flat", help="faiss factory string (%(default)s)")
    add("--nprobe", type=positive, default=_SETTINGS.nprobe, help="IVF: lists searched for a query (%(default)s)")
    add("--ef-search", type=positive, default=_SETTINGS.ef_search, help="HNSW: candidates kept (%(default)s)")
    add("--embeddings", type=Path, metavar="DIR", help="folder of the vectors, shared by several indexes")
    add("--shard-size", type=positive, default=SHARD_SIZE, help="passages in a file of vectors (%(default)s)")
    add(
        "--vector-dtype", choices=("float32", "float16"), default="float32", help="number format of the vectors on disk"
    )
    add("--drop-embeddings", action="store_true", help="delete the vectors once the index is built")
    add("--milvus-uri", metavar="URI", help="a Milvus cluster's URL, or a file for Milvus Lite")
    add("--collection", metavar="NAME", help="name of the Milvus collection")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.backend == "bm25" and (options.encoder or options.encoder_path):
        raise ValueError("the bm25 backend takes no encoder")
    if options.backend != "bm25" and not options.encoder:
        raise ValueError(f"the {options.backend} backend needs --encoder")
    if (options.backend == "milvus") != bool(options.milvus_uri and options.collection):
        raise ValueError("--milvus-uri and --collection belong to --backend milvus, which needs both")


def _build(options: argparse.Namespace, passages: Sequence[Passage]) -> None:
    if options.backend == "bm25":
        build_bm25(options.out, passages, options.processes)
        return
    plan = DensePlan(
        load_encoder(
            options.encoder,
            options.encoder_path,
            device=options.device,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
        ),
        options.factory,
        SearchSettings(options.nprobe, options.ef_search),
        options.embeddings,
        options.shard_size,
        options.vector_dtype,
        not options.drop_embeddings,
    )
    if options.backend == "dense":
        build_dense(options.out, passages, plan)
    elif options.backend == "hybrid":
        build_hybrid(options.out, passages, plan, options.processes)
    else:
        from retriever.index.milvus import build_milvus

        build_milvus(options.out, passages, plan.encoder, options.milvus_uri, options.collection)


if __name__ == "__main__":
    sys.exit(main())
