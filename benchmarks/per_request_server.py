"""The server to beat: it searches each request alone, as the published systems' servers do.

`python -m benchmarks.per_request_server --index DIR --encoder-path DIR --ready-file FILE`

R1-Searcher's format and its way (a Flask view that encodes and searches what one request brings), on the HTTP server
that ours uses, so that a comparison shows the batching and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import OneLineParser, run_command
from foundation.files import write_whole
from foundation.process import bind, stop_with_parent, url_of
from retriever.index.backends import Opening, load_index
from retriever.interface import Index
from retriever.wire.bodies import Ask, as_object, load
from retriever.wire.formats import FORMATS


def serve(index: Index, ready_file: Path, threads: int) -> None:
    """Answer POST /queries for ever."""
    import waitress
    from flask import Flask, Response, request

    wire_format = FORMATS["r1_searcher"]
    app = Flask("per_request")

    @app.post(wire_format.path)
    def queries() -> Response:
        row = as_object(load(request.get_data()))
        ask = Ask(tuple(row["queries"]), row["k"])  # type: ignore[arg-type]
        body = wire_format.encode_answer(ask, index.search(ask.queries, ask.top_k))
        return Response(body, content_type="application/json")

    listener = bind("127.0.0.1", 0)
    listener.listen(1024)
    write_whole(ready_file, url_of("127.0.0.1", listener) + "\n")
    waitress.serve(app, sockets=[listener], threads=threads, _quiet=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.per_request_server", description=__doc__)
    parser.add_argument("--index", required=True, type=Path)
    parser.add_argument("--encoder-path")
    parser.add_argument("--ready-file", required=True, type=Path)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args(argv)
    return run_command("benchmarks.per_request_server", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    stop_with_parent(None)
    serve(load_index(options.index, Opening(encoder_path=options.encoder_path)), options.ready_file, options.threads)


if __name__ == "__main__":
    sys.exit(main())
