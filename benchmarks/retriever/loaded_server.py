"""A server in a process of its own, under load, and what its work took."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import psutil

from benchmarks.retriever.http_load import Load, http_request, load
from benchmarks.retriever.server_process import ServerProcess
from retriever.wire.bodies import Ask
from retriever.wire.formats import WireFormat


@dataclass(frozen=True)
class Work:
    """Queries done, and what they took."""

    queries: int
    seconds: float
    processor_seconds: float
    """Of the server's process, or the encoder's; on a busy machine steadier than the time on the clock."""

    @property
    def per_second(self) -> float:
        """Queries per second."""
        return self.queries / self.seconds

    @property
    def processor_ms(self) -> float:
        """Of one query."""
        return 1000 * self.processor_seconds / self.queries

    def __add__(self, other: Work) -> Work:
        """Two measurements as one."""
        return Work(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Target:
    """A running server, and the requests that it gets."""

    pid: int
    url: str
    requests: Sequence[bytes]

    def run(self, callers: int, seconds: float, skip: int = 0) -> tuple[Load, Work]:
        """Load it for some seconds; `skip` requests go to the end of the line first."""
        skip %= len(self.requests)
        spent = sum(psutil.Process(self.pid).cpu_times()[:2])
        requests = [*self.requests[skip:], *self.requests[:skip]]
        seen = asyncio.run(load(self.url, requests, callers=callers, seconds=seconds))
        spent = sum(psutil.Process(self.pid).cpu_times()[:2]) - spent
        return seen, Work(len(seen.latencies), seen.seconds, spent)


@contextlib.contextmanager
def served(
    wire_format: WireFormat, queries: Sequence[str], top_k: int, module: str, *flags: object
) -> Iterator[Target]:
    """A server in a process of its own. Raises RuntimeError where it does not start."""
    server = ServerProcess(module, *flags)
    requests = [http_request(wire_format.path, wire_format.encode_request(Ask((query,), top_k))) for query in queries]
    try:
        server.start()
        url = server.wait()
        assert server.pid is not None
        yield Target(server.pid, url, requests)
    finally:
        server.kill()
