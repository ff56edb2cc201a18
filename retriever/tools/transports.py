"""How an MCP server is reached: streamable HTTP, the older HTTP with two streams (SSE), or a command's streams.

The one module that names the `mcp` package and its HTTP library on the asking side; both are imported when needed.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from foundation.http import display_url, trusted_certificates
from foundation.proxies import proxy_for
from foundation.secrets import with_credentials
from retriever.errors import RetrieverRejected

CONNECT_S = 60.0
"""Longest time that a server gets to start and to say what tools it has; `npx` may load it first."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToolServer:
    """Where a server is, and what it is given."""

    place: str
    """An http(s) address, or a command that speaks MCP on its standard streams."""
    transport: str = ""
    """`http` (streamable) or `sse`; empty: `sse` for an address that ends with /sse. A command has none."""
    key_variable: str = ""
    """Environment variable with the key that an address is sent."""
    key_header: str = ""
    """The header that carries the key as it is; empty: `Authorization: Bearer`."""
    passed_on: tuple[str, ...] = ()
    """Environment variables that a command gets beside those that every program needs."""

    @property
    def is_address(self) -> bool:
        """Whether it is spoken to over HTTP."""
        return self.place.startswith(("http://", "https://"))

    @property
    def is_sse(self) -> bool:
        """Whether its transport is the older one, of two streams."""
        return self.transport == "sse" or (not self.transport and urlsplit(self.place).path.endswith("/sse"))

    @property
    def shown(self) -> str:
        """As it may appear in logs and errors: a command without its arguments, which may be secrets."""
        return display_url(self.place) if self.is_address else Path(shlex.split(self.place)[0]).name

    def secret(self, variable: str) -> str:
        """The value of one of its environment variables. Raises RetrieverRejected where it is not set."""
        value = os.environ.get(variable, "").strip()
        if not value:
            reason = f"the environment variable {variable} is not set"
            raise RetrieverRejected(f"{self.shown}: {reason}", status=401, reason=reason)
        return value


def library(name: str) -> Any:
    """A module of the `mcp` package, or of what comes with it. Raises ImportError that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError("MCP needs the mcp library: pip install mcp") from error


def client_of(server: ToolServer, stack: AsyncExitStack, refused: Callable[[int], None]) -> Any:
    """The library's client, not yet connected.

    Args:
        server: who is asked.
        stack: closes what the client does not close itself.
        refused: told the HTTP status of every refusal, which the library does not hand on.

    Raises:
        RetrieverRejected: a key is missing.
    """
    _silence()
    about = library("mcp_types").Implementation(name="r1-searcher", version="1")
    # Nothing that a server says of its tools is kept: it may be another one after it was restarted.
    return library("mcp").Client(_transport(server, stack, refused), cache=None, client_info=about)


def _transport(server: ToolServer, stack: AsyncExitStack, refused: Callable[[int], None]) -> Any:
    if not server.is_address:
        stdio = library("mcp.client.stdio")
        command, *arguments = shlex.split(server.place)
        given = {name: server.secret(name) for name in server.passed_on}
        started = stdio.StdioServerParameters(command=command, args=arguments, env=given)
        return stdio.stdio_client(started, errlog=sys.__stderr__)
    url = with_credentials(server.place)
    client = _http_client(server, url, refused)
    if server.is_sse:
        return library("mcp.client.sse").sse_client(_without_user(url), httpx_client_factory=lambda **settings: client)
    stack.push_async_callback(client.aclose)
    return library("mcp.client.streamable_http").streamable_http_client(
        _without_user(url), http_client=client, max_sse_event_size=MAX_ANSWER_BYTES
    )


def _http_client(server: ToolServer, url: str, refused: Callable[[int], None]) -> Any:
    """An HTTP client that sends the key, takes answers of bounded size, and tells of refusals.

    Of the environment only proxies are looked at (`.netrc` may hold passwords for other services). A stream may rest
    for long: the calls on it have limits of their own.
    """
    httpx, parts = library("httpx2"), urlsplit(url)

    async def note(response: Any) -> None:
        if response.status_code >= 400:
            refused(response.status_code)

    headers = {"Accept-Encoding": "identity"}
    if server.key_variable:
        key = server.secret(server.key_variable)
        headers |= {server.key_header: key} if server.key_header else {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(
        transport=_bounded(httpx, httpx.AsyncHTTPTransport(verify=trusted_certificates(), proxy=proxy_for(url))),
        headers=headers,
        auth=(unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        timeout=httpx.Timeout(CONNECT_S, read=None),
        event_hooks={"response": [note]},
        trust_env=False,
    )


def _bounded(httpx: Any, inner: Any) -> Any:
    """The transport, whose answers end at `MAX_ANSWER_BYTES`; events of a stream are bounded one by one elsewhere."""

    class Bounded(httpx.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            read = 0
            async for chunk in self._stream:
                read += len(chunk)
                if read > MAX_ANSWER_BYTES:
                    raise httpx.StreamError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            response = await inner.handle_async_request(request)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                response.stream = Bounded(response.stream)
            if response.headers.get("content-encoding", "identity") != "identity":
                await response.aclose()
                raise httpx.DecodingError("a compressed answer, which was not asked for", request=request)
            return response

        async def aclose(self) -> None:
            await inner.aclose()

    return Transport()


def _without_user(url: str) -> str:
    """The address without user name and password, which go in a header: the library logs addresses."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _silence() -> None:
    """Quiet the libraries' logs: they hold whole addresses, and what they say of failures is raised as well."""
    for name, level in (("httpx2", logging.WARNING), ("mcp.client", logging.CRITICAL), ("client", logging.ERROR)):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
