"""Passages, a served index in a thread, and a scripted HTTP server for faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.services.search_servers import command_served, serve

from retriever import Passage
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import read_corpus

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
def encyclopedia() -> Path:
    """Folder with the project's own small corpus and questions; see tests/data/README.md."""
    return Path(__file__).resolve().parents[1] / "data" / "encyclopedia"


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


@pytest.fixture(scope="session")
def served_url(bm25: Bm25Index) -> Iterator[str]:
    with serve(bm25) as url:
        yield url


@pytest.fixture
def serve_index():
    return serve


@pytest.fixture
def serve_command(monkeypatch, tmp_path):
    """`python -m retriever.server` with the flags given, in this process: a context that gives its URL."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # the command sets it for its process, which is this one
    return lambda *flags: command_served(monkeypatch, tmp_path / "url", flags)


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
