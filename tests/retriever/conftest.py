"""Passages, a served index in a thread, and a scripted HTTP server for faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from foundation.process import bind, url_of
from retriever import Passage
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import read_corpus
from retriever.server.app import MAX_BODY_BYTES, create_app
from retriever.server.search_service import SearchService
from retriever.server.waitress_host import HttpServer

PASSAGES = [
    Passage("p0", "Lilu (mythology)", "A lilu is a masculine Akkadian word for a spirit."),
    Passage("p1", "Alû", "In Akkadian mythology, Alû is a vengeful spirit."),
    Passage("p2", "Christopher Nolan", "Christopher Nolan is an English film director."),
    Passage("p3", "Paris", "Paris is the capital of France."),
    Passage("p4", "Twin", "The very same words."),
    Passage("p5", "Twin", "The very same words."),
]

Step = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="session")
def passages() -> list[Passage]:
    return PASSAGES


@pytest.fixture(scope="session")
def bm25(passages: list[Passage]) -> Bm25Index:
    return Bm25Index.build(passages)


@pytest.fixture(scope="session")
def wiki_mini() -> Path:
    """Folder with real passages, present only where the project is developed."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "wiki_mini"
    if not folder.is_dir():
        pytest.skip(f"no real passages: {folder} is not here")
    return folder


@pytest.fixture(scope="session")
def wiki_passages(wiki_mini: Path) -> list[Passage]:
    return read_corpus(wiki_mini / "passages.jsonl")


class Stop:
    """What `StopSignal` is to a process, for a server in a thread."""

    def __init__(self) -> None:
        self.stopping = False
        self.wake: Callable[[], None] = lambda: None

    def serve_with(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def now(self) -> None:
        self.stopping = True
        self.wake()


@contextlib.contextmanager
def serve(index, service: SearchService | None = None, **options) -> Iterator[str]:
    """The real app under the real server loop, in a thread; gives the URL. `options` are those of `create_app`."""
    listener, stop, service = bind("127.0.0.1", 0), Stop(), service or SearchService()
    service.open(index)
    app = create_app(service, **options)
    server = HttpServer(app, listener, threads=16, max_body_bytes=options.get("max_body_bytes", MAX_BODY_BYTES))
    thread = threading.Thread(target=server.serve, args=(service, stop, None, ""), daemon=True)
    thread.start()
    yield url_of("127.0.0.1", listener)
    stop.now()
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def served_url(bm25: Bm25Index) -> Iterator[str]:
    with serve(bm25) as url:
        yield url


@pytest.fixture
def serve_index():
    return serve


class ScriptedServer:
    """A real HTTP server that plays one step per request, the last one for ever; records what it got."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.bodies: list[dict[str, object]] = []
        self.headers: list[str] = []
        self.url = ""
        self._open: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedServer]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._exchange(reader, writer)
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()
        await asyncio.sleep(0)
        self._open.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line for line in head.lower().splitlines() if line.startswith("content-length")]
        length = int(lengths[0].split(":")[1]) if lengths else 0
        self.headers.append(head)
        self.bodies.append(json.loads(await reader.readexactly(length)) if length else {})
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        await step(writer)
        await writer.drain()


def reply(status: int, body: bytes, headers: str = "", length: int | None = None, pause: float = 0.0) -> Step:
    """A step: a whole answer; `length` is claimed instead of the true one, `pause` seconds between bytes."""

    async def step(writer: asyncio.StreamWriter) -> None:
        claimed = len(body) if length is None else length
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {claimed}\r\nConnection: close\r\n{headers}\r\n"
        writer.write(head.encode())
        if not pause:
            writer.write(body)
        for byte in body if pause else b"":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause)

    return step


@pytest.fixture
def scripted_server() -> type[ScriptedServer]:
    return ScriptedServer


@pytest.fixture
def http_reply():
    return reply
