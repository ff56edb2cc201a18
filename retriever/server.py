"""The search service: a Flask app over an `Index`, and its command line under waitress.

    python -m retriever.server --corpus passages.jsonl --backend bm25 --port 8000
    python -m retriever.server --index saved_index/ --port 0 --ready-file url.txt --exit-with-parent

Exit codes: 0 after SIGTERM, SIGINT or the parent's end; 2 for anything wrong at the start, with one line on
stderr. The app holds any `Index`; one that gathers the queries of concurrent callers into batches needs no
change here.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retriever import wire
from retriever.backends import BACKENDS, build_index, load_index
from retriever.corpus import read_corpus
from retriever.interface import Index
from retriever.process import OneLineParser, StopSignal, bind, stop_with_parent, url_of, write_ready_file

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

_DEFAULTS = wire.RequestLimits()
_MAX_BODY_BYTES = 16 * 1024 * 1024
_DRAIN_S = 10.0
"""Longest time that requests under way get to finish when the server stops."""


def create_app(
    index: Index,
    *,
    max_top_k: int = _DEFAULTS.max_top_k,
    max_queries: int = _DEFAULTS.max_queries,
    max_query_chars: int = _DEFAULTS.max_query_chars,
    max_body_bytes: int = _MAX_BODY_BYTES,
) -> Flask:
    """The WSGI app: POST /search, POST /queries (R1-Searcher's format), GET /health; see `retriever.wire`.

    A wrong request gets a 4xx and a failing index a 500, both with `{"error": ...}` on one line.

    Raises:
        ImportError: Flask is missing.
    """
    try:
        from flask import Flask, Response, request
    except ImportError as error:
        raise ImportError("the retriever server needs Flask: pip install flask waitress") from error

    limits = wire.RequestLimits(max_top_k, max_queries, max_query_chars)
    app = Flask("retriever")
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    _answer_errors(app, max_body_bytes)

    @app.post("/search")
    def search() -> Response:
        queries, top_k = wire.decode_request(request.get_data(), limits)
        return Response(wire.encode_results(index.search(queries, top_k)), content_type="application/json")

    @app.post("/queries")
    def queries_of_r1_searcher() -> Response:
        queries, top_k = wire.decode_r1_request(request.get_data(), limits)
        body = wire.encode_r1_results(queries, index.search(queries, top_k))
        return Response(body, content_type="application/json")

    @app.get("/health")
    def health() -> Response:
        body = wire.encode_health(wire.Health("ready", index.name, len(index)))
        return Response(body, content_type="application/json")

    return app


def _answer_errors(app: Flask, max_body_bytes: int) -> None:
    """Give every error of the app a JSON line as its body."""
    from flask import Response, request
    from werkzeug.exceptions import HTTPException

    def answer(message: str, status: int) -> Response:
        return Response(wire.encode_error(message), status=status, content_type="application/json")

    @app.errorhandler(wire.WireError)
    def wrong_request(error: wire.WireError) -> Response:
        return answer(str(error), 400)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        said = f"{request.method} {request.path}: {error.name}"
        if error.code == 413:
            said += f", the body may have at most {max_body_bytes} bytes"
        return answer(said, error.code or 500)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        logger.exception("%s failed", request.path)
        return answer(f"search failed with {type(error).__name__}, see the server's log", 500)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal; see the module's docstring."""
    parser = _parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A line for each request that waits for a thread, which is the ordinary case under a step's worth of episodes.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # Waitress warns of every request that has to wait for a thread, which is the normal case under load.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    ready_file: Path | None = args.ready_file
    signals = StopSignal()
    try:
        if args.exit_with_parent is not None:
            stop_with_parent(args.exit_with_parent or None)
        if ready_file is not None:
            if not ready_file.absolute().parent.is_dir():
                raise ValueError(f"--ready-file {ready_file}: its folder does not exist")
            # A file left by an earlier run would send clients to the wrong address.
            ready_file.unlink(missing_ok=True)
        listener = bind(args.host, args.port)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with listener:
        try:
            server = _waitress(create_app(_open_index(args)), listener, args.threads)
        except (ValueError, OSError, ImportError) as error:
            parser.error(str(error))
        try:
            _serve(server, signals, ready_file, url_of(args.host, listener))
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m retriever.server", description="Serve a corpus for search.")
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=Path, metavar="FILE", help="JSONL with id, title, text to index now")
    source.add_argument("--index", type=Path, metavar="DIR", help="a saved index")
    add("--backend", choices=BACKENDS, help="default: bm25, or what the saved index is")
    add("--encoder", metavar="NAME", help="for dense: a row of retriever.encoder.ENCODERS")
    add("--encoder-path", metavar="DIR", help="local folder with the encoder's weights")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=8000, help="0 picks a free one (%(default)s)")
    add("--threads", type=_positive, default=8, help="searches at once (%(default)s)")
    add("--ready-file", type=Path, metavar="PATH", help="gets the URL once the service answers")
    parent_help = "stop when the parent process ends; its pid covers a parent that dies before we look"
    add("--exit-with-parent", type=_positive, nargs="?", const=0, metavar="PID", help=parent_help)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def _open_index(args: argparse.Namespace) -> Index:
    started = time.monotonic()
    if args.corpus is not None:
        passages = read_corpus(args.corpus)
        index = build_index(passages, args.backend or "bm25", args.encoder, args.encoder_path)
    else:
        index = load_index(args.index, args.backend, args.encoder, args.encoder_path)
    seconds = time.monotonic() - started
    logger.info("%s index of %d passages opened in %.1f s", index.name, len(index), seconds)
    return index


def _waitress(app: Flask, listener: socket.socket, threads: int) -> Any:
    try:
        waitress = import_module("waitress.server")
    except ImportError as error:
        raise ImportError("the retriever server needs waitress: pip install waitress") from error
    return waitress.create_server(
        app,
        sockets=[listener],
        threads=threads,
        connection_limit=4096,
        backlog=2048,
        asyncore_use_poll=True,
        # Twice the app's limit, so that the app words the refusal; waitress's own is not JSON.
        max_request_body_size=2 * _MAX_BODY_BYTES,
        ident="retriever",
    )


def _serve(server: Any, signals: StopSignal, ready_file: Path | None, url: str) -> None:
    """Answer requests until a signal, then let those under way finish, and stop."""
    signals.serve_with(server.pull_trigger)
    logger.info("ready at %s (pid %d)", url, os.getpid())
    if ready_file is not None:
        write_ready_file(ready_file, url)
    while not signals.stopping:
        server.asyncore.loop(timeout=1.0, map=server._map, use_poll=True, count=1)
    server.accepting = False
    give_up_at = time.monotonic() + _DRAIN_S
    while time.monotonic() < give_up_at and any(
        channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values())
    ):
        server.asyncore.loop(timeout=0.1, map=server._map, use_poll=True, count=1)
    server.task_dispatcher.shutdown(timeout=0.1)
    server.asyncore.close_all(server._map)
    logger.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
