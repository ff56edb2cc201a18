"""Connections to MCP servers: opened when first needed, renewed when they break.

A connection belongs to one task, because the library's scopes must be left by the task that entered them. That task
opens it, waits, and closes it; searches call through it from theirs. One that broke, or that let a call wait in vain,
is retired: new calls open another, and it is closed once the calls under way are through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from foundation.http import describe, failure_of, printable
from foundation.loops import AskedOnce
from retriever.errors import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
    search_failure,
)
from retriever.tools.shapes import Call, Shape, ShapeError, call_of
from retriever.tools.transports import CONNECT_S, ToolServer, client_of, library

_MOST_PAGES = 20
"""Pages of tools that are read."""
_CLOSE_S = 10.0


@dataclass(slots=True)
class Connection:
    """An open connection to a server, and how its tool is asked."""

    client: Any
    """The library's `Client`."""
    tool: str
    call: Call
    server_name: str
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set for the task that owns it: close."""
    under_way: int = 0
    """Calls that wait for an answer."""
    retired: bool = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """While a call is under way."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if self.retired:
                self.retire()

    def retire(self) -> None:
        """Take no further calls, and close once none is under way."""
        self.retired = True
        if not self.under_way:
            self.closing.set()


class ToolConnections:
    """The connections of one event loop to one server; one at a time takes new calls."""

    def __init__(self, server: ToolServer, tool: str, shape: Shape) -> None:
        """Prepare; nothing is opened yet. `tool` may be empty where one can be told to be the search."""
        self._server, self._tool, self._shape = server, tool, shape
        self._current: Connection | None = None
        self._owners: set[asyncio.Task[None]] = set()
        self._opening: AskedOnce[Connection] = AskedOnce()
        self._status: int | None = None
        """HTTP status of the last refusal, which the library does not hand on."""

    async def open(self) -> Connection:
        """The present connection, or a new one. Raises RetrieverError."""
        if self._current is not None and not self._current.retired:
            return self._current
        # For all who wait: one that gives up does not break it off for the others.
        return await self._opening.ask("open", self._open)

    async def call(self, query: str, top_k: int, limit_s: float) -> Any:
        """The library's `CallToolResult` of one search; the result may say that the tool failed.

        Raises:
            RetrieverError: the connection failed, or the server refused the call.
        """
        connection: Connection | None = None
        try:
            async with asyncio.timeout(limit_s):
                connection = await self.open()
                with connection.used():
                    return await connection.client.call_tool(connection.tool, connection.call.arguments(query, top_k))
        except RetrieverError:
            raise
        except TimeoutError:
            if connection is not None:
                connection.retire()
            raise RetrieverTimeout(f"no complete answer from {self._server.shown} within {limit_s:g} s") from None
        except Exception as error:
            if connection is not None and _breaks(error):
                connection.retire()
            raise self._typed(error) from None

    async def close(self) -> None:
        """Close all connections; commands that were started end."""
        if self._current is not None:
            self._current.closing.set()
            self._current = None
        if self._owners:
            _, late = await asyncio.wait(set(self._owners), timeout=_CLOSE_S)
            for task in late:
                task.cancel()

    async def _open(self) -> Connection:
        ready: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        ready.add_done_callback(lambda done: done.exception())  # now seen, also where nobody waits any more
        self._status = None
        owner = asyncio.create_task(self._own(ready))
        self._owners.add(owner)
        owner.add_done_callback(self._owners.discard)
        await asyncio.wait([ready], timeout=CONNECT_S)
        if not ready.done():
            owner.cancel()
            raise RetrieverTimeout(f"{self._server.shown} did not open an MCP connection within {CONNECT_S:g} s")
        self._current = ready.result()
        return self._current

    async def _own(self, ready: asyncio.Future[Connection]) -> None:
        """Open a connection, hand it over, and close it when told, or when it breaks."""
        connection: Connection | None = None
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(client_of(self._server, stack, self._note))
                connection = await self._described(client)
                if not ready.done():
                    ready.set_result(connection)
                    await connection.closing.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(self._typed(error))
            if not isinstance(error, Exception):
                raise
            # What a connection breaks with is told to the calls that it breaks.
        finally:
            if connection is not None:
                connection.retired = True

    async def _described(self, client: Any) -> Connection:
        """The connection, once the server has said how its tool is called."""
        tools: dict[str, Any] = {}
        cursor = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if not cursor:
                break
        name = self._chosen(tools)
        try:
            call = call_of(tools[name].input_schema, self._shape)
        except ShapeError as error:
            raise RetrieverRejected(f"{self._server.shown}: the tool {name!r}: {error}", status=400) from None
        about = client.server_info
        return Connection(client, name, call, about.name if about is not None else self._server.shown)

    def _chosen(self, tools: dict[str, Any]) -> str:
        """The tool that is asked: the one that was named, `search`, or the only one that says it searches."""
        searching = [name for name in tools if "search" in name.lower()]
        found = self._tool or ("search" if "search" in tools else "")
        found = found or (searching[0] if len(searching) == 1 else "") or (next(iter(tools)) if len(tools) == 1 else "")
        if found in tools:
            return found
        reason = f"it has no tool {found!r}" if found else "which of its tools searches?"
        has = ", ".join(sorted(name[:60] for name in tools)[:20]) or "none"
        message = f"{self._server.shown}: {reason}; it has {has}; say ?tool=NAME"
        raise RetrieverRejected(message, status=404, reason=reason)

    def _note(self, status: int) -> None:
        self._status = status

    def _typed(self, error: BaseException) -> RetrieverError:
        """The failure that an error of the library stands for."""
        error = _leaf(error)
        if isinstance(error, RetrieverError):
            return error
        shown, types = self._server.shown, library("mcp_types")
        code = getattr(error, "code", None)
        status = getattr(getattr(error, "response", None), "status_code", None)  # of an event stream that is refused
        if code == types.INTERNAL_ERROR or (code == types.METHOD_NOT_FOUND and self._status == 404):
            status, self._status = self._status, None
        if status is not None and status >= 400:
            return search_failure(failure_of(status, f"{shown} answered {status}", "", {}))
        if isinstance(error, library("mcp").MCPError):
            words = printable(error.message)[:300]
            if code in (types.INVALID_PARAMS, types.METHOD_NOT_FOUND):
                return RetrieverRejected(f"{shown}: {words}", status=400, reason=words)
            kinds = {types.PARSE_ERROR: RetrieverBadResponse, types.REQUEST_TIMEOUT: RetrieverTimeout}
            return kinds.get(code, RetrieverUnavailable)(f"{shown}: {words}")
        return _kind_of(error)(f"{shown}: {describe(error)[:300]}")


def _kind_of(error: BaseException) -> type[RetrieverError]:
    """The kind of failure that an error of the streams below stands for; what is none of theirs is a bad answer."""
    httpx, anyio = library("httpx2"), library("anyio")
    if isinstance(error, httpx.TimeoutException):
        return RetrieverTimeout
    gone = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, asyncio.CancelledError)
    return RetrieverUnavailable if isinstance(error, (httpx.TransportError, OSError, *gone)) else RetrieverBadResponse


def _breaks(error: BaseException) -> bool:
    """Whether no further call can succeed on the connection: it is closed, or the server has forgotten the session."""
    types = library("mcp_types")
    if isinstance(error, library("mcp").MCPError):
        return error.code in (types.CONNECTION_CLOSED, types.INVALID_REQUEST)
    return _kind_of(error) is RetrieverUnavailable


def _leaf(error: BaseException) -> BaseException:
    """The first error of a group, which the library's tasks raise together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
