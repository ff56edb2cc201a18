"""One HTTP exchange over aiohttp: the only client-side module that knows the HTTP library.

`Transport` is the seam of `HttpRetriever`: one method, one exchange, no retries. Tests replace it with a
scripted one; a pool of endpoints can implement it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from retriever.errors import RetrieverBadResponse, RetrieverTimeout, RetrieverUnavailable

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


class Transport(Protocol):
    """Carries one request to the service and its answer back."""

    async def send(self, method: str, url: str, body: bytes | None, limit_s: float) -> Reply:
        """Exchange one request within `limit_s` seconds; any HTTP status is a `Reply`.

        Raises:
            RetrieverUnavailable: refused, not found, or broken off.
            RetrieverTimeout: not connected or not answered in time.
            RetrieverBadResponse: larger than allowed, or not HTTP.
        """
        ...

    async def close(self) -> None:
        """Release the running event loop's connections."""
        ...


class AiohttpTransport:
    """Keep-alive connections through one aiohttp session per event loop, opened when first needed."""

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        max_connections: int,
        max_response_bytes: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Set the limits of every exchange.

        Args:
            connect_timeout: seconds to open a connection.
            read_timeout: seconds from the request to the last byte of the answer.
            max_connections: open at once, per event loop.
            max_response_bytes: larger answers are broken off, counted after decompression.
            headers: sent with every request, for tokens and the like.
        """
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._max_connections, self._max_response_bytes = max_connections, max_response_bytes
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._sessions: dict[asyncio.AbstractEventLoop, Any] = {}

    async def send(self, method: str, url: str, body: bytes | None, limit_s: float) -> Reply:
        """Exchange one request; see `Transport`. Redirects are not followed: a POST would lose its body."""
        aiohttp = _aiohttp()
        shown = display_url(url)
        total = min(limit_s, self._connect_timeout + self._read_timeout)
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=self._connect_timeout, sock_read=self._read_timeout)
        try:
            async with self._session().request(
                method, url, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                content = await self._read(response, shown)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, content, headers)
        except aiohttp.ConnectionTimeoutError as error:
            raise RetrieverTimeout(f"no connection to {shown} within {self._connect_timeout:g} s") from error
        except TimeoutError as error:
            raise RetrieverTimeout(f"no complete answer from {shown} within {total:g} s") from error
        except aiohttp.ClientResponseError as error:
            raise RetrieverBadResponse(f"{shown} did not answer in HTTP: {error.message}") from error
        except aiohttp.ClientConnectorError as error:
            raise RetrieverUnavailable(f"cannot connect to {shown} ({_reason(error)}); is the server up?") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RetrieverUnavailable(f"{shown} broke the connection off ({_reason(error)})") from error

    async def close(self) -> None:
        """Close the running loop's session; the next request would open a new one."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    async def _read(self, response: Any, shown: str) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            content += chunk
            if len(content) > self._max_response_bytes:
                # Otherwise the rest would be read before the connection is used again.
                response.close()
                raise RetrieverBadResponse(
                    f"{shown} answered more than {self._max_response_bytes} bytes; "
                    "ask for fewer passages or raise max_response_bytes"
                )
        return bytes(content)

    def _session(self) -> Any:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            # A session belongs to its loop; those of finished loops cannot be closed any more, only let go.
            for finished in [known for known in self._sessions if known.is_closed()]:
                del self._sessions[finished]
            aiohttp = _aiohttp()
            connector = aiohttp.TCPConnector(limit=self._max_connections, limit_per_host=0)
            session = aiohttp.ClientSession(connector=connector, headers=self._headers)
            self._sessions[loop] = session
        return session


def display_url(url: str) -> str:
    """The URL as it may appear in logs and errors: without user name, password and query string."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: BaseException) -> str:
    error = getattr(error, "os_error", error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise ImportError("the HTTP retriever client needs the aiohttp library: pip install aiohttp") from error
    return aiohttp
