"""Many callers of one HTTP service from one light process: keep-alive connections, one request under way on each.

The callers share the machine with the server that they measure, so a request costs them some tens of microseconds:
bodies are encoded beforehand, and of an answer only the head is looked at.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Load:
    """The callers' measurements."""

    callers: int
    seconds: float
    latencies: Sequence[float] = field(repr=False)
    """Seconds of each answered request."""
    processor_seconds: float
    """Spent by the callers' own process."""

    @property
    def per_second(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        """Latency that `percent` % of the requests did not exceed, in milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return 1000 * statistics.fmean(self.latencies)

    def __add__(self, other: Load) -> Load:
        """Two measurements as one."""
        return Load(
            self.callers,
            self.seconds + other.seconds,
            [*self.latencies, *other.latencies],
            self.processor_seconds + other.processor_seconds,
        )


class LoadFailed(Exception):
    """The service answered something else than 200, or hung up."""


def http_request(path: str, body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(url: str, requests: Sequence[bytes], *, callers: int, seconds: float) -> Load:
    """Send the requests in order, again and again, `callers` at a time, for some seconds.

    Raises:
        ValueError: a URL without host and port.
        LoadFailed: an answer that is not 200.
        OSError: no connection.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if host is None or port is None:
        raise ValueError(f"expected a URL such as http://127.0.0.1:8000, found {url!r}")
    loop = asyncio.get_running_loop()
    stream, latencies = itertools.cycle(requests), list[float]()
    connections = [
        (await loop.create_connection(lambda: _Caller(stream, latencies), host, port))[1] for _ in range(callers)
    ]
    spent, started = time.process_time(), time.perf_counter()
    for each in connections:
        each.send()
    _, pending = await asyncio.wait(
        [each.ended for each in connections], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
    )
    elapsed, spent = time.perf_counter() - started, time.process_time() - spent
    for each in connections:
        each.close()
    failed = [each.ended.exception() for each in connections if each.ended not in pending]
    if failed and failed[0]:
        raise failed[0]
    return Load(callers, elapsed, latencies, spent)


class _Caller(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is complete."""

    def __init__(self, stream: Iterator[bytes], latencies: list[float]) -> None:
        self._stream, self._latencies = stream, latencies
        self._buffer, self._expected = bytearray(), -1
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self) -> None:
        """Send the next request."""
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._stream))

    def close(self) -> None:
        """End without an error."""
        if not self.ended.done():
            self.ended.cancel()
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._expected < 0:
            head_ends = self._buffer.find(b"\r\n\r\n")
            if head_ends < 0:
                return
            head = bytes(self._buffer[:head_ends]).lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(f"expected a 200, found {bytes(self._buffer[:300])!r}")
                return
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._expected = head_ends + 4 + int(length)
        if len(self._buffer) >= self._expected:
            self._latencies.append(time.perf_counter() - self._sent_at)
            self._buffer.clear()
            self._expected = -1
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the server hung up")

    def _fail(self, message: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadFailed(message))
