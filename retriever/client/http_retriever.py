"""`HttpRetriever`: a search service over HTTP, on one address or several, with bounded retries and typed errors."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from types import TracebackType

from foundation.retry import ClientStats, RetryPolicy
from retriever.client.addresses import addresses_of, authorization
from retriever.client.replicas import BreakerPolicy, Endpoint, EndpointPool
from retriever.client.replies import checked
from retriever.client.transport import AiohttpTransport, Transport, display_url
from retriever.errors import RetrieverBadResponse, RetrieverError, RetrieverRejected, RetrieverUnavailable, gave_up
from retriever.interface import READY, Health
from retriever.passage import Hits, SearchRequest
from retriever.wire import bodies as wire
from retriever.wire.bodies import Ask
from retriever.wire.formats import find_format

logger = logging.getLogger(__name__)


class HttpRetriever:
    """A remote `Retriever`: `retriever.server`, or a published system's server through `wire`.

    At most `max_connections` searches are under way per event loop; more of them wait their turn, and the
    deadline of a search starts when its turn comes, so that a long queue in front of a healthy service fails
    nobody. A search that fails at one address is sent to the next at once, and waits only when none is left.
    Usable from several event loops; call `close` (or use `async with`) in each.
    """

    def __init__(
        self,
        url: str,
        *,
        wire: str = "own",
        connect_timeout: float = 5.0,
        read_timeout: float = 60.0,
        attempts: int = 4,
        backoff: float = 0.5,
        max_backoff: float = 10.0,
        deadline: float = 180.0,
        max_connections: int = 256,
        max_response_bytes: int = 32 * 1024 * 1024,
        breaker: BreakerPolicy | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: base address such as `http://127.0.0.1:8000`, or several of equal servers, separated by commas; a user
                name and password in it are sent as basic authorization and never shown.
            wire: a row of `retriever.wire.formats.FORMATS`: what the server speaks.
            connect_timeout, read_timeout, max_response_bytes, headers: per attempt, see `AiohttpTransport`.
            attempts, backoff, max_backoff, deadline: per search, all addresses together, see `RetryPolicy`.
            max_connections: searches under way at once, per event loop.
            breaker: when an address is left alone for a while.
            token: sent as `Authorization: Bearer`; default: the environment's RETRIEVER_TOKEN.
            transport: replaces the HTTP library; then the per-attempt settings and the token are unused.

        Raises:
            ValueError: not an http(s) address, an unknown format, or a limit that could never be met.
        """
        if min(connect_timeout, read_timeout, max_connections, max_response_bytes) <= 0:
            raise ValueError(
                "connect_timeout, read_timeout, max_connections and max_response_bytes must be above 0, got "
                f"{connect_timeout}, {read_timeout}, {max_connections} and {max_response_bytes}"
            )
        self._format = find_format(wire)
        self._addresses = {Endpoint(each.search): each for each in addresses_of(url, self._format.path)}
        # Own generator: drawing from the global one would change what a seeded training run samples.
        self._random = random.Random()
        self._pool = EndpointPool(tuple(self._addresses), breaker or BreakerPolicy(), turn=self._random.randrange(1024))
        self._retry = RetryPolicy(attempts, backoff, max_backoff, deadline)
        self._max_connections = max_connections
        self._transport: Transport = transport or AiohttpTransport(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_connections=max_connections,
            max_response_bytes=max_response_bytes,
            headers={**authorization(token, list(self._addresses.values())), **(headers or {})},
        )
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
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
            RetrieverBadResponse: once no other address is left to ask.
            RetrieverRejected: at once.
        """
        started = time.monotonic()
        try:
            async with self._turn():
                hits = await self._search_with_retries(Ask((request.query,), request.top_k))
        except RetrieverError as error:
            self.stats.failures[error.kind] += 1
            self._count(started)
            raise
        self._count(started)
        return hits

    async def health(self, timeout: float = 5.0) -> Health:
        """Ask every address once, outside the queue of searches, whether the service is ready.

        Gives the answer of the first that is. Servers of other systems are asked one search instead, and their
        answer says `ready`, the format's name and 0 passages.

        Raises:
            RetrieverError: none is ready within `timeout` seconds; the error of the first address.
        """
        asked = [self._health_of(endpoint, timeout) for endpoint in self._pool.endpoints]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        ready = [answer for answer in answers if isinstance(answer, Health)]
        for answer in answers:
            if isinstance(answer, BaseException) and not (isinstance(answer, RetrieverError) and ready):
                raise answer
        if len({(each.index, each.passages) for each in ready}) > 1:
            logger.warning("the addresses serve different indexes: %s", "; ".join(map(str, ready)))
        return ready[0]

    async def close(self) -> None:
        """Close the running loop's connections. A later search would open new ones."""
        self._turns.pop(asyncio.get_running_loop(), None)
        await self._transport.close()

    async def _search_with_retries(self, ask: Ask) -> Hits:
        give_up_at = time.monotonic() + self._retry.deadline
        body = self._format.encode_request(ask)
        failures = 0
        failed_here: list[Endpoint] = []
        """Addresses that failed since the last wait."""
        while True:
            endpoint = self._pool.pick(failed_here)
            try:
                return await self._attempt(endpoint, ask, body, give_up_at - time.monotonic())
            except RetrieverRejected:
                raise
            except RetrieverError as error:
                failures += 1
                failed_here.append(endpoint)
                elsewhere = self._pool.has_other(failed_here)
                if not error.transient and not elsewhere:
                    raise
                if failures >= self._retry.attempts:
                    raise gave_up(error, f"attempt {failures} of {self._retry.attempts}") from error
                wait = 0.0 if elsewhere else self._wait_after(error, failures)
                if time.monotonic() + wait >= give_up_at:
                    left = f"the next one in {wait:.3g} s is past the deadline of {self._retry.deadline:g} s"
                    raise gave_up(error, f"attempt {failures}; {left}") from error
            if not elsewhere:
                failed_here.clear()
                await asyncio.sleep(wait)
            self.stats.retries += 1

    async def _attempt(self, endpoint: Endpoint, ask: Ask, body: bytes, limit_s: float) -> Hits:
        """One request to one address, whose record it updates."""
        endpoint.outstanding += 1
        try:
            # The wait before may overrun by a hair, and HTTP libraries read 0 as "no limit".
            reply = await self._transport.send("POST", endpoint.url, body, max(limit_s, 0.001))
            hits = self._format.decode_answer(checked(reply, display_url(endpoint.url)), ask)[0]
        except RetrieverRejected:
            self._pool.succeeded(endpoint)
            raise
        except RetrieverError as error:
            self._pool.failed(endpoint, error.retry_after_s if isinstance(error, RetrieverUnavailable) else None)
            raise
        except wire.WireError as error:
            self._pool.failed(endpoint)
            raise _foreign(endpoint.url, error) from error
        finally:
            endpoint.outstanding -= 1
        self._pool.succeeded(endpoint)
        return hits

    async def _health_of(self, endpoint: Endpoint, timeout: float) -> Health:
        if not self._format.tells_health:
            ask = Ask(("health",), 1)
            await self._attempt(endpoint, ask, self._format.encode_request(ask), timeout)
            return Health(READY, self._format.name, 0)
        url = self._addresses[endpoint].health
        reply = await self._transport.send("GET", url, None, timeout)
        try:
            return wire.decode_health(checked(reply, display_url(url)))
        except wire.WireError as error:
            raise _foreign(url, error) from error

    def _wait_after(self, error: RetrieverError, failures: int) -> float:
        retry_after = error.retry_after_s if isinstance(error, RetrieverUnavailable) else None
        return self._retry.wait(failures, retry_after, self._random.random())

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


def _foreign(url: str, error: wire.WireError) -> RetrieverBadResponse:
    return RetrieverBadResponse(f"{display_url(url)}: {error}; is this a retriever server that speaks this format?")
