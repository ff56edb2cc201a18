"""Our search as tools for any agent: a server of the Model Context Protocol (MCP) over a search source or an index.

    python -m retriever.mcp --search http://127.0.0.1:8000                  on its standard streams, as agents start it
    python -m retriever.mcp --index indexes/wiki18 --port 8765              over HTTP, at http://127.0.0.1:8765/mcp
    python -m retriever.mcp --corpus passages.jsonl                         a file of passages, through BM25

Its tools are `search` (a query and how many passages) and `get_document` (the whole of a passage by its id). Over a
source, only passages that this server has found are known by their ids; over an index all are. With --token-file, or
RETRIEVER_TOKEN in the environment, callers over HTTP must send the token.
Exit statuses: 0 after the client has gone, or over HTTP after SIGTERM or SIGINT; 2 bad input, with one line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cachetools import LRUCache
from pydantic import Field

from foundation.cli import TIMED, OneLineParser, expected, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.process import TOKEN_VARIABLE, StopSignal, bind, url_of
from foundation.web_server import Access, add_address_options, token_of, warn_if_open
from retriever.errors import RetrieverError
from retriever.index.backends import Opening, build_index, load_index
from retriever.index.encoder import add_encoder_options
from retriever.index.store import PassageStore, open_corpus
from retriever.interface import Index, LocalRetriever, RankedIndex, Retriever
from retriever.passage import Passage, SearchRequest
from retriever.sources import follows_progress, open_retriever
from retriever.tools.transports import library

logger = logging.getLogger(__name__)

MAX_TOP_K = 50
MAX_QUERY_CHARS = 8192
REMEMBERED = 10_000
"""Passages that a server over a source knows by their ids: those that were found, or asked for, last."""
INSTRUCTIONS = "Search finds passages for a query, best first. get_document gives one of them whole, by its id."
_PATH = "/mcp"

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Document:
    """A passage, as the tools give it."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class FoundDocument(Document):
    """A passage that was found."""

    score: float
    """Larger is better, within one answer."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, best first."""

    results: list[FoundDocument]


class Documents:
    """Passages by their ids."""

    def __init__(self, passages: Sequence[Passage] = (), *, remembered: int = REMEMBERED) -> None:
        """Args: passages: all of a corpus, where it is known; remembered: passages kept of those that were found."""
        self._passages = passages
        self._found: LRUCache[str, Passage] = LRUCache(remembered)
        self._lock = threading.Lock()

    def remember(self, passage: Passage) -> None:
        """Know it from now on."""
        with self._lock:
            self._found[passage.id] = passage

    def get(self, identifier: str) -> Passage | None:
        """The passage of this id; looking through millions takes a moment, so not in an event loop's thread."""
        with self._lock:
            known = self._found.get(identifier)
        if known is not None:
            return known
        if isinstance(self._passages, PassageStore):
            return self._passages.find(identifier)
        return next((passage for passage in self._passages if passage.id == identifier), None)


def create_server(retriever: Retriever, documents: Documents) -> Any:
    """The library's server with both tools.

    Raises:
        ImportError: the mcp library is missing.
    """
    server_library = library("mcp.server.mcpserver")
    exceptions, types = library("mcp.server.mcpserver.exceptions"), library("mcp_types")
    server = server_library.MCPServer("r1-searcher", instructions=INSTRUCTIONS, log_level="WARNING")
    reads = types.ToolAnnotations(read_only_hint=True)

    async def search(
        query: Annotated[str, Field(max_length=MAX_QUERY_CHARS, description="What to look for, in plain words.")],
        top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, description="Most passages wanted.")] = 5,
    ) -> SearchResult:
        try:
            hits = await retriever.search(SearchRequest(query, top_k))
        except RetrieverError as error:
            logger.warning("%s", error)
            raise exceptions.ToolError(f"the search failed ({error.kind}): {error}") from error
        for hit in hits:
            documents.remember(hit.passage)
        return SearchResult([FoundDocument(**asdict(hit.passage), score=hit.score) for hit in hits])

    async def get_document(
        id: Annotated[str, Field(description="The id of a passage that a search found.")],
    ) -> Document:
        passage = await asyncio.to_thread(documents.get, id)
        if passage is None:
            raise exceptions.ToolError(f"no passage with the id {id[:80]!r} is known; search for it first")
        return Document(**asdict(passage))

    server.tool(description="Find passages for a query, best first.", annotations=reads)(search)
    server.tool(description="The whole of a passage, by its id.", annotations=reads)(get_document)
    return server


def guarded(app: Asgi, token: str | None) -> Asgi:
    """The app; with a token, only for those who send it."""
    access = Access(token)

    async def answer(scope: Scope, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers") or ())
        sent = headers.get(b"authorization", b"").decode("latin-1")
        if scope["type"] != "http" or access.allows(scope["path"], sent):
            await app(scope, receive, send)
            return
        refusal = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": refusal})
        await send({"type": "http.response.body", "body": b'{"error": "send this server\'s token as a bearer token"}'})

    return answer


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    # Standard output belongs to the protocol.
    log_to_stderr(TIMED)
    return run_command("retriever.mcp", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with expected(ValueError, OSError, ImportError):
        retriever, documents = _opened(options)
        server = create_server(retriever, documents)
        token = token_of(options.token_file, TOKEN_VARIABLE) if options.port is not None else None
        listener = bind(options.host, options.port) if options.port is not None else None
    if listener is None:
        asyncio.run(_on_streams(server, retriever))
        return
    with listener:
        warn_if_open(options.host, token)
        listener.listen()  # who reads the address may connect at once
        print(f"{url_of(options.host, listener)}{_PATH}", flush=True)
        asyncio.run(_over_http(server, retriever, listener, options.host, token))


async def _on_streams(server: Any, retriever: Retriever) -> None:
    try:
        await server.run_stdio_async()
    finally:
        await retriever.close()


async def _over_http(server: Any, retriever: Retriever, listener: socket.socket, host: str, token: str | None) -> None:
    uvicorn = library("uvicorn")
    # Without sessions: a restarted server has forgotten nothing that a client needs.
    app = server.streamable_http_app(streamable_http_path=_PATH, stateless_http=True, json_response=True, host=host)
    config = uvicorn.Config(guarded(app, token), log_config=None, access_log=False, lifespan="on")
    web, signals = uvicorn.Server(config), StopSignal()
    web.capture_signals = contextlib.nullcontext  # its own would end the process by the signal

    def stop() -> None:
        web.should_exit = True

    signals.serve_with(stop)
    try:
        await web.serve(sockets=[listener])
    finally:
        await retriever.close()


def _opened(options: argparse.Namespace) -> tuple[Retriever, Documents]:
    if options.search is not None:
        if follows_progress(options.search):
            raise InputError("simulated search needs the question that an episode is about; an agent's call has none")
        return open_retriever(options.search), Documents()
    index: Index
    if options.corpus is not None:
        passages = open_corpus(options.corpus)
        index = build_index(passages, "bm25", None, None, "Flat", trust_remote_code=False)
    else:
        index = load_index(options.index, Opening.of(options))
        passages = index.passages if isinstance(index, RankedIndex) else ()
    logger.info("%s index of %d passages", index.name, len(index))
    return LocalRetriever(index), Documents(passages)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="retriever.mcp", description="Offer a search to agents, over MCP.", allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--search", "--retriever-url", metavar="SOURCE", help="where searches go (docs/retriever.md)")
    source.add_argument("--index", type=Path, metavar="DIR", help="a saved index, opened here")
    source.add_argument("--corpus", type=Path, metavar="PATH", help="passages, indexed now by BM25")
    add = parser.add_argument_group("with --index").add_argument
    add_encoder_options(add)
    add("--store", type=Path, metavar="DIR", help="folder of its passage store, if that has moved")
    add("--milvus-uri", metavar="URL", help="its Milvus server, which is sent the token in MILVUS_TOKEN")
    add = parser.add_argument_group("over HTTP").add_argument
    there = "listen there (0: a free one), not on the standard streams"
    add_address_options(add, token=TOKEN_VARIABLE, default=None, also=there)
    return parser


if __name__ == "__main__":
    sys.exit(main())
