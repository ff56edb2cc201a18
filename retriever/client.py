"""`HttpRetriever`: a search service over HTTP, with bounded retries and typed errors."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from urllib.parse import urlsplit

from retriever import wire
from retriever.errors import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
)
from retriever.passage import Hits, SearchRequest
from retriever.retry import ClientStats, RetryPolicy
from retriever.transport import AiohttpTransport, Reply, Transport, display_url

_BUSY_STATUSES = frozenset({408, 425, 429})
"""The 4xx that say "later" instead of "wrong"."""


class HttpRetriever:
    """A remote `Retriever` (POST /search of `retriever.server`).

    At most `max_connections` searches are under way per event loop; more of them wait their turn, and the
    deadline of a search starts when its turn comes, so that a long queue in front of a healthy service fails
    nobody. Usable from several event loops; call `close` (or use `async with`) in each.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 60.0,
        attempts: int = 4,
        backoff: float = 0.5,
        max_backoff: float = 10.0,
        deadline: float = 180.0,
        max_connections: int = 256,
        max_response_bytes: int = 32 * 1024 * 1024,
        headers: Mapping[str, str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: base address such as `http://127.0.0.1:8000`; a user name and password in it are sent as
                basic authorization and never shown.
            connect_timeout, read_timeout, max_response_bytes, headers: per attempt, see `AiohttpTransport`.
            attempts, backoff, max_backoff, deadline: per search, see `RetryPolicy`.
            max_connections: searches under way at once, per event loop.
            transport: replaces the HTTP library; then the per-attempt settings are unused.

        Raises:
            ValueError: not an http(s) address, or a limit that could never be met.
        """
        if not _is_base_url(url):
            raise ValueError(f"retriever URL must look like http://host:port, got {display_url(url)!r}")
        if min(connect_timeout, read_timeout, max_connections, max_response_bytes) <= 0:
            raise ValueError(
                "connect_timeout, read_timeout, max_connections and max_response_bytes must be above 0, got "
                f"{connect_timeout}, {read_timeout}, {max_connections} and {max_response_bytes}"
            )
        self._url = url.rstrip("/")
        self._retry = RetryPolicy(attempts, backoff, max_backoff, deadline)
        self._max_connections = max_connections
        self._transport: Transport = transport or AiohttpTransport(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_connections=max_connections,
            max_response_bytes=max_response_bytes,
            headers=headers,
        )
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
        # Own generator: drawing from the global one would change what a seeded training run samples.
        self._random = random.Random()
        self.stats = ClientStats()

    async def __aenter__(self) -> HttpRetriever:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def search(self, request: SearchRequest) -> Hits:
        """Find at most `request.top_k` passages, best first.

        Raises:
            RetrieverUnavailable, RetrieverTimeout: after the last attempt that attempts and deadline allow.
            RetrieverBadResponse, RetrieverRejected: at once.
        """
        started = time.monotonic()
        try:
            async with self._turn():
                hits = await self._search_with_retries(request)
        except RetrieverError as error:
            self.stats.failures[error.kind] += 1
            self._count(started)
            raise
        self._count(started)
        return hits

    async def health(self, timeout: float = 5.0) -> wire.Health:
        """Ask once, without retries and outside the queue of searches, whether the service is ready.

        Raises:
            RetrieverError: it is not ready within `timeout` seconds.
        """
        url = f"{self._url}/health"
        reply = await self._transport.send("GET", url, None, timeout)
        try:
            return wire.decode_health(_checked(reply, display_url(url)))
        except wire.WireError as error:
            raise RetrieverBadResponse(f"{display_url(url)}: {error}; is this a retriever server?") from error

    async def close(self) -> None:
        """Close the running loop's connections. A later search would open new ones."""
        self._turns.pop(asyncio.get_running_loop(), None)
        await self._transport.close()

    async def _search_with_retries(self, request: SearchRequest) -> Hits:
        give_up_at = time.monotonic() + self._retry.deadline
        body = wire.encode_request([request.query], request.top_k)
        failures = 0
        while True:
            try:
                return await self._attempt(body, request.top_k, give_up_at - time.monotonic())
            except RetrieverError as error:
                failures += 1
                if not error.transient:
                    raise
                retry_after = error.retry_after_s if isinstance(error, RetrieverUnavailable) else None
                wait = self._retry.wait(failures, retry_after, self._random.random())
                if failures >= self._retry.attempts:
                    raise _gave_up(error, f"attempt {failures} of {self._retry.attempts}") from error
                if time.monotonic() + wait >= give_up_at:
                    left = f"the next one in {wait:.3g} s is past the deadline of {self._retry.deadline:g} s"
                    raise _gave_up(error, f"attempt {failures}; {left}") from error
            await asyncio.sleep(wait)
            self.stats.retries += 1

    async def _attempt(self, body: bytes, top_k: int, limit_s: float) -> Hits:
        url = f"{self._url}/search"
        # The wait before may overrun by a hair, and HTTP libraries read 0 as "no limit".
        reply = await self._transport.send("POST", url, body, max(limit_s, 0.001))
        content = _checked(reply, display_url(url))
        try:
            return wire.decode_results(content, count=1, top_k=top_k)[0]
        except wire.WireError as error:
            raise RetrieverBadResponse(f"{display_url(url)}: {error}; is this a retriever server?") from error

    def _turn(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if loop not in self._turns:
            for finished in [known for known in self._turns if known.is_closed()]:
                del self._turns[finished]
            self._turns[loop] = asyncio.Semaphore(self._max_connections)
        return self._turns[loop]

    def _count(self, started: float) -> None:
        self.stats.searches += 1
        self.stats.seconds += time.monotonic() - started


def _is_base_url(url: str) -> bool:
    parts = urlsplit(url)
    try:
        port_is_legal = parts.port != 0
    except ValueError:
        return False
    plain = not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_legal and plain


def _checked(reply: Reply, url: str) -> bytes:
    """The body of a 200 answer; every other status raises its error."""
    if reply.status == 200:
        return reply.body
    said = f"{url} answered {reply.status}: {wire.decode_error(reply.body) or 'no message'}"
    if reply.status in _BUSY_STATUSES or reply.status >= 500:
        raise RetrieverUnavailable(said, retry_after_s=_retry_after(reply.headers.get("retry-after")))
    if 400 <= reply.status < 500:
        raise RetrieverRejected(said, status=reply.status, reason=wire.decode_error(reply.body))
    raise RetrieverBadResponse(f"{said}; expected 200, check the retriever URL")


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header (seconds or a date); None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _gave_up(error: RetrieverError, why: str) -> RetrieverError:
    kind = RetrieverTimeout if isinstance(error, RetrieverTimeout) else RetrieverUnavailable
    return kind(f"{error} (gave up after {why})")
