"""`ToolRetriever`: a search tool of an MCP server as a search source."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import InputError
from foundation.http import printable
from foundation.loops import PerLoop
from foundation.proxies import proxy_for
from foundation.retry import Attempts, RetryPolicy
from foundation.secrets import check_may_carry_key
from retriever.errors import RetrieverBadResponse, RetrieverTimeout, RetrieverUnavailable
from retriever.interface import READY, Health
from retriever.passage import Hits, Passage, SearchRequest
from retriever.tools.session import ToolConnections
from retriever.tools.shapes import STANDARD, Shape, ShapeError, read_hits
from retriever.tools.transports import CONNECT_S, MAX_ANSWER_BYTES, ToolServer

CONCURRENCY = 32
"""Calls that one process has under way with a server, unless told otherwise."""


class ToolRetriever:
    """Calls a tool for each search. Scores are the server's where they fall with the rank, otherwise 1/rank."""

    def __init__(
        self,
        server: ToolServer,
        *,
        tool: str = "",
        shape: Shape = STANDARD,
        concurrency: int = CONCURRENCY,
        read_timeout: float = 30.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare; nothing is started or sent yet.

        Args:
            server: who is asked.
            tool: name of the tool; empty where one can be told to be the search.
            shape: the names of its arguments and results.
            concurrency: calls under way at once, in each event loop.
            read_timeout: seconds of one attempt.
            retry: attempts, waits and deadline of one search.

        Raises:
            ValueError: no address and no command that is there, or a key that would go in clear text.
        """
        _check(server)
        self._server, self._shape, self._read_timeout = server, shape, read_timeout
        self._connections = PerLoop(lambda: ToolConnections(server, tool, shape))
        self._slots = PerLoop(lambda: asyncio.Semaphore(concurrency))
        self._attempts = Attempts(retry or RetryPolicy())
        self.stats = self._attempts.stats

    async def search(self, request: SearchRequest) -> Hits:
        """Find at most `request.top_k` passages; an empty query finds nothing and is not sent.

        Raises:
            RetrieverUnavailable, RetrieverTimeout: past the retries; also where the tool itself says that it failed.
            RetrieverBadResponse: no results can be found in the answer.
            RetrieverRejected: no such tool, arguments that it does not take, a key that is missing or wrong.
        """
        if not request.query.strip():
            return ()
        return await self._attempts.run(lambda _, limit_s: self._ask(request, limit_s), slot=self._slots.get())

    async def health(self, timeout: float = CONNECT_S) -> Health:
        """Whether the server is there and has the tool; calls no tool. Raises RetrieverError."""
        try:
            async with asyncio.timeout(timeout):
                connection = await self._connections.get().open()
        except TimeoutError:
            raise RetrieverTimeout(f"{self._server.shown}: no MCP connection within {timeout:g} s") from None
        return Health(READY, f"mcp:{printable(connection.server_name)[:80]}/{connection.tool}", 0)

    async def close(self) -> None:
        """Close the running event loop's connections; a command that was started ends."""
        self._slots.pop()
        connections = self._connections.pop()
        if connections is not None:
            await connections.close()

    async def _ask(self, request: SearchRequest, limit_s: float) -> Hits:
        limit_s = min(limit_s, self._read_timeout)
        result = await self._connections.get().call(request.query, request.top_k, limit_s)
        texts, linked = _contents(result)
        if result.is_error:
            said = printable(" ".join(texts))[:300] or "no reason given"
            raise RetrieverUnavailable(f"{self._server.shown}: the tool failed: {said}")
        if sum(map(len, texts)) > MAX_ANSWER_BYTES:
            raise RetrieverBadResponse(f"{self._server.shown}: an answer of more than {MAX_ANSWER_BYTES} characters")
        try:
            return read_hits(result.structured_content, texts, linked, self._shape, request.top_k)
        except ShapeError as error:
            raise RetrieverBadResponse(f"{self._server.shown}: {printable(str(error))}") from error


def _contents(result: Any) -> tuple[list[str], list[Passage]]:
    """The texts of a result, and the passages that it embeds or links to."""
    texts, linked = [], []
    for content in result.content:
        if content.type == "text":
            texts.append(content.text)
        elif content.type == "resource" and getattr(content.resource, "text", None) is not None:
            linked.append(Passage(str(content.resource.uri), "", content.resource.text))
        elif content.type == "resource_link":
            linked.append(Passage(str(content.uri), content.title or content.name, content.description or ""))
    return texts, linked


def _check(server: ToolServer) -> None:
    if not server.is_address:
        try:
            words = shlex.split(server.place)
        except ValueError as error:
            raise ValueError(f"mcp: the command cannot be split into words: {error}") from None
        if not words or "://" in words[0]:
            raise ValueError("mcp: expected an http(s) address or a command, as mcp:http://host/mcp?tool=search")
        if shutil.which(words[0]) is None:
            raise ValueError(f"mcp: there is no program {printable(words[0])!r}")
        if server.key_variable or server.transport:
            raise ValueError("mcp: key_variable and transport are for addresses; a command gets its keys by env=NAME")
        return
    if server.passed_on:
        raise ValueError("mcp: env is for commands; an address is sent the key of key_variable=NAME")
    if not urlsplit(server.place).hostname:
        raise ValueError(f"mcp: the address must look like http://host:port/mcp, found {server.shown!r}")
    if server.key_variable:
        check_may_carry_key(server.place, server.key_variable)
    try:
        proxy_for(server.place)
    except InputError as error:
        raise ValueError(str(error)) from error
