"""The search service's command line.

    python -m retriever.server --corpus passages.jsonl --backend bm25 --port 8000
    python -m retriever.server --index saved_index/ --port 0 --ready-file url.txt --exit-with-parent

The socket answers while the index loads: `/health` says so, and searches get a 503. With RETRIEVER_TOKEN in the
environment, or --token-file, requests must carry the token. Exit statuses: 0 after SIGTERM, SIGINT or the parent's
end; 2 bad input, 3 a Milvus that does not answer at the start, with one line on stderr.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import TIMED, OneLineParser, expected, log_to_stderr, natural, positive, run_command
from foundation.process import TOKEN_VARIABLE, StopSignal, bind, url_of
from foundation.web_server import (
    MAX_BODY_BYTES,
    Access,
    Capacity,
    HttpServer,
    add_address_options,
    add_lifetime_options,
    begin_lifetime,
    token_of,
    warn_if_open,
)
from retriever.index.backends import SAVED_BACKENDS, Opening, build_index, load_index
from retriever.index.corpus import doubts
from retriever.index.encoder import add_encoder_options
from retriever.index.store import open_corpus
from retriever.interface import Index
from retriever.server.app import DEFAULT_LIMITS, create_app
from retriever.server.batching import BatchLimits
from retriever.server.search_service import SearchService

__all__ = ["create_app", "main"]

logger = logging.getLogger(__name__)

_BATCHES = BatchLimits()
_OPENING = ("device", "dtype", "store", "milvus_uri", "nprobe", "ef_search", "faiss_gpu")
"""Flags that say how a saved index is opened."""
_REQUEST_LIMITS = ("max_top_k", "max_queries", "max_query_chars", "max_body_bytes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal; see the module's docstring."""
    options = parser().parse_args(argv)
    log_to_stderr(TIMED)
    return run_command("retriever.server", lambda: _serve(options))


def _serve(options: argparse.Namespace) -> None:
    _set_openmp(options.cpu_threads)
    signals = StopSignal()
    with expected(ValueError, OSError):
        _refuse_misplaced(options)
        token = token_of(options.token_file, TOKEN_VARIABLE)
        begin_lifetime(options)
        listener = bind(options.host, options.port)
    with listener:
        limits = BatchLimits(options.max_batch, options.max_waiting, options.search_threads)
        with expected(ValueError, OSError, ImportError):
            service = SearchService(limits=limits, cache_size=options.cache_size)
            app = create_app(service, **{name: getattr(options, name) for name in _REQUEST_LIMITS}, token=token)
            server = HttpServer(
                app,
                listener,
                threads=options.threads,
                max_body_bytes=options.max_body_bytes,
                access=Access(token),
                capacity=Capacity.of_this_process(),
            )
            server.load(lambda: service.open(open_index(options)))
        warn_if_open(options.host, token)
        server.serve(signals, options.ready_file, url_of(options.host, listener), service.stop)


def parser() -> argparse.ArgumentParser:
    """The options of the server."""
    parser = OneLineParser(prog="retriever.server", description="Serve a corpus for search.", allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=Path, metavar="PATH", help="corpus file or passage store to index now")
    source.add_argument("--index", type=Path, metavar="DIR", help="a saved index")
    _add_index_options(parser)
    add = parser.add_argument_group("batches and cache").add_argument
    add("--max-batch", type=positive, default=_BATCHES.max_batch, help="queries searched at once (%(default)s)")
    add("--max-waiting", type=positive, default=_BATCHES.max_waiting, help="queries that may wait (%(default)s)")
    add("--search-threads", type=positive, default=_BATCHES.workers, help="batches searched at once (%(default)s)")
    add("--cache-size", type=natural, default=10_000, metavar="N", help="answers kept, 0: none (%(default)s)")
    _add_request_limits(parser)
    add = parser.add_argument_group("process").add_argument
    add_address_options(add, token=TOKEN_VARIABLE, default=8000)
    add("--threads", type=positive, default=128, help="requests at once (%(default)s)")
    add_lifetime_options(add)
    return parser


def _add_index_options(parser: argparse.ArgumentParser) -> None:
    """How an index is built or opened."""
    add = parser.add_argument_group("index").add_argument
    add("--backend", choices=SAVED_BACKENDS, help="kind of index (default: bm25, or the saved index's own)")
    add("--encoder", metavar="NAME", help="for dense: a row of retriever.index.encoder.ENCODERS")
    add_encoder_options(add, "with --index: torch device of the encoder (default: the library's choice)")
    add("--factory", help="with --corpus: faiss factory string of a dense index (default: Flat, which is exact)")
    add("--no-corpus-warnings", action="store_true", help="no warnings of missing titles or odd first lines")
    add("--dtype", help="with --index: number format of the encoder's weights (default: auto)")
    add("--store", type=Path, metavar="DIR", help="with --index: folder of its passage store, if that has moved")
    add("--milvus-uri", metavar="URL", help="with --index: its Milvus server, which is sent the token in MILVUS_TOKEN")
    add("--nprobe", type=positive, metavar="N", help="with --index: IVF lists searched per query")
    add("--ef-search", type=positive, metavar="N", help="with --index: HNSW candidates kept")
    add("--faiss-gpu", action="store_true", default=None, help="with --index: copy the vectors to the GPUs")
    add("--cpu-threads", type=positive, metavar="N", help="threads of encoder and faiss (default: all cores)")


def _add_request_limits(parser: argparse.ArgumentParser) -> None:
    """What a single request may ask for."""
    add = parser.add_argument_group("limits of a request").add_argument
    add(
        "--max-top-k",
        type=positive,
        default=DEFAULT_LIMITS.max_top_k,
        metavar="K",
        help="most hits per query (%(default)s)",
    )
    add(
        "--max-queries",
        type=positive,
        default=DEFAULT_LIMITS.max_queries,
        metavar="N",
        help="limit of a request (default: none but that of its body)",
    )
    add(
        "--max-query-chars",
        type=positive,
        default=DEFAULT_LIMITS.max_query_chars,
        metavar="N",
        help="limit of a request (%(default)s)",
    )
    add("--max-body-bytes", type=positive, default=MAX_BODY_BYTES, metavar="N", help="limit of a request (%(default)s)")


def _set_openmp(threads: int | None) -> None:
    """Settings of torch's OpenMP and of faiss's own, both not imported yet.

    Passive waiting, because a server shares its processors with its callers and often with a trainer: OpenMP's threads
    spin at each of the many barriers of a forward pass, and where one of them is not running, the others spin away its
    time slice (on two busy processors one query took six times the processor time).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _refuse_misplaced(options: argparse.Namespace) -> None:
    """Raise ValueError for a flag that cannot be combined with the source of the index."""
    source, foreign = ("--index", ("factory",)) if options.index is not None else ("--corpus", _OPENING)
    for name in foreign:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} cannot be combined with {source}")


def open_index(options: argparse.Namespace) -> Index:
    """The index that the options name, built or loaded."""
    started = time.monotonic()
    if options.corpus is not None:
        backend, factory = options.backend or "bm25", options.factory or "Flat"
        passages = open_corpus(options.corpus)
        for doubt in () if options.no_corpus_warnings else doubts(passages):
            logger.warning("%s", doubt)
        index = build_index(
            passages,
            backend,
            options.encoder,
            options.encoder_path,
            factory,
            trust_remote_code=options.trust_remote_code,
        )
    else:
        index = load_index(options.index, Opening.of(options))
    seconds = time.monotonic() - started
    logger.info("%s index of %d passages opened in %.1f s", index.name, len(index), seconds)
    if options.device is None:
        _warn_of_gpu()
    return index


def _warn_of_gpu() -> None:
    """Say so where the library's choice of a device is a GPU, which a trainer may have been given."""
    torch = sys.modules.get("torch")  # an index without an encoder has not imported it
    if torch is not None and torch.cuda.is_available():
        logger.warning(
            "the encoder takes cuda:0, the first GPU that this process sees; where a trainer shares the machine, give "
            "--device cpu, or this process a GPU of its own (CUDA_VISIBLE_DEVICES)"
        )


if __name__ == "__main__":
    sys.exit(main())
