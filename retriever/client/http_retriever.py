"""`HttpRetriever`: a search service over HTTP, on one address or several, with bounded retries and typed errors."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from foundation.http import HttpLimits, Transport, display_url
from foundation.loops import PerLoop
from foundation.retry import Attempts, RetryPolicy
from retriever.client.addresses import addresses_and_format, authorization
from retriever.client.replicas import BreakerPolicy, Replica, ReplicaPool
from retriever.client.transport import SearchTransport, checked
from retriever.errors import RetrieverBadResponse, RetrieverError, RetrieverRejected
from retriever.interface import READY, Health
from retriever.passage import Hits, SearchRequest
from retriever.wire import bodies
from retriever.wire.bodies import Ask

logger = logging.getLogger(__name__)


class HttpRetriever:
    """A remote `Retriever`: `retriever.server`, or a published system's server through `wire`.

    At most `limits.max_connections` searches are under way per event loop; more of them wait their turn, and the
    deadline of a search starts when its turn comes, so that no search fails only because many wait for a healthy
    service. A search that fails at one address is sent to the next at once, and waits only when none is left.
    Usable from several event loops; call `close` (or use `async with`) in each.
    """

    def __init__(
        self,
        url: str,
        *,
        wire: str | None = None,
        limits: HttpLimits | None = None,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: base address such as `http://127.0.0.1:8000`, or several of equal servers, separated by commas; a user
                name and password in it are sent as basic authorization and never shown. The address of another
                system's server ends in its path, or in `?wire=NAME`.
            wire: a row of `retriever.wire.formats.FORMATS`: what the server speaks; default: what the address says.
            limits: of each attempt, and searches under way at once per event loop.
            retry: attempts, waits and deadline of one search, all addresses together.
            breaker: when an address is left alone for a while.
            token: sent as `Authorization: Bearer`; default: the environment's RETRIEVER_TOKEN.
            headers: sent with every request.
            transport: replaces the HTTP library; then the limits of an attempt and the token are unused.

        Raises:
            ValueError: not an http(s) address, or an unknown format.
        """
        limits = limits or HttpLimits()
        addresses, self._format = addresses_and_format(url, wire)
        self._addresses = {Replica(each.search): each for each in addresses}
        turn = random.Random().randrange(1024)  # not the global one, from which a seeded training run samples
        self._pool = ReplicaPool(tuple(self._addresses), breaker or BreakerPolicy(), turn=turn)
        self._attempts = Attempts(retry or RetryPolicy())
        self._transport: Transport = transport or SearchTransport(
            limits, {**authorization(token, list(self._addresses.values())), **(headers or {})}
        )
        self._slots = PerLoop(lambda: asyncio.Semaphore(limits.max_connections))
        self.stats = self._attempts.stats

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
        # Such a query is legal here and finds nothing; ReSearch's server refuses it.
        if not self._format.blank_query and not request.query.strip():
            return ()
        ask = Ask((request.query,), request.top_k)
        body = self._format.encode_request(ask)
        tour = _Tour(self._pool)
        return await self._attempts.run(
            lambda _, limit_s: self._attempt(tour, ask, body, limit_s),
            slot=self._slots.get(),
            again=lambda error: not isinstance(error, RetrieverRejected) and (error.transient or tour.goes_on),
            at_once=lambda: tour.goes_on,
        )

    async def health(self, timeout: float = 5.0) -> Health:
        """Ask every address once, outside the queue of searches, whether the service is ready.

        Gives the answer of the first that is. Servers of other systems are asked one search instead, and their
        answer says `ready`, the format's name and 0 passages.

        Raises:
            RetrieverError: none is ready within `timeout` seconds; the error of the first address.
        """
        asked = [self._health_of(replica, timeout) for replica in self._pool.replicas]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        ready = [answer for answer in answers if isinstance(answer, Health)]
        for answer in answers:
            if isinstance(answer, BaseException) and not (isinstance(answer, RetrieverError) and ready):
                raise answer
        if len({(each.index, each.passages, each.corpus) for each in ready}) > 1:
            logger.warning("the addresses serve different indexes: %s", "; ".join(map(str, ready)))
        return ready[0]

    async def close(self) -> None:
        """Close the running loop's connections. A later search would open new ones."""
        self._slots.pop()
        await self._transport.close()

    async def _attempt(self, tour: _Tour, ask: Ask, body: bytes, limit_s: float) -> Hits:
        """One request to the next address of a search."""
        replica = tour.next()
        try:
            return await self._ask(replica, ask, body, limit_s)
        except RetrieverError:
            tour.failed(replica)
            raise

    async def _ask(self, replica: Replica, ask: Ask, body: bytes, limit_s: float) -> Hits:
        """One request to one address, whose record it updates."""
        replica.outstanding += 1
        try:
            reply = await self._transport.send("POST", replica.url, body, limit_s)
            hits = self._format.decode_answer(checked(reply, display_url(replica.url)), ask)[0]
        except RetrieverRejected:
            self._pool.succeeded(replica)
            raise
        except RetrieverError as error:
            self._pool.failed(replica, error.retry_after_s)
            raise
        except bodies.WireError as error:
            self._pool.failed(replica)
            raise _foreign(replica.url, error) from error
        finally:
            replica.outstanding -= 1
        self._pool.succeeded(replica)
        return hits

    async def _health_of(self, replica: Replica, timeout: float) -> Health:
        if not self._format.tells_health:
            ask = Ask(("health",), 1)
            await self._ask(replica, ask, self._format.encode_request(ask), timeout)
            return Health(READY, self._format.name, 0)
        url = self._addresses[replica].health
        reply = await self._transport.send("GET", url, None, timeout)
        try:
            return bodies.decode_health(checked(reply, display_url(url)))
        except bodies.WireError as error:
            raise _foreign(url, error) from error


@dataclass(slots=True)
class _Tour:
    """The addresses that one search asks, one after the other."""

    pool: ReplicaPool
    failed_here: list[Replica] = field(default_factory=list)
    """Since the last wait."""
    goes_on: bool = False
    """Whether another address may be asked at once."""

    def next(self) -> Replica:
        """The address to ask now."""
        if not self.goes_on:
            self.failed_here.clear()
        return self.pool.pick(self.failed_here)

    def failed(self, replica: Replica) -> None:
        """It gave no usable answer."""
        self.failed_here.append(replica)
        self.goes_on = self.pool.has_other(self.failed_here)


def _foreign(url: str, error: bodies.WireError) -> RetrieverBadResponse:
    return RetrieverBadResponse(f"{display_url(url)}: {error}; is this a retriever server that speaks this format?")
