"""Hosts the app on uvicorn: bounded in connections, ready when it says so, and stopped gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from foundation.process import StopSignal
from foundation.web_server import Capacity, announced

logger = logging.getLogger(__name__)

_FIRST_REQUEST_S = 20.0
"""A new connection that has sent no request's headers in this time is closed."""
_KEEP_ALIVE_S = 30
_LAST_S = 5
"""Beyond the episodes' own time to finish: for the last bytes of their answers."""


class _Connection(HttpToolsProtocol):
    """A connection that may not stay open for nothing; uvicorn itself closes only those that have been used."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(_FIRST_REQUEST_S, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class AgentHost(uvicorn.Server):
    """A server whose signals are ours."""

    def __init__(self, app: ASGIApp, *, drain_s: float, ready: Callable[[], None]) -> None:
        """Nothing listens yet.

        Args:
            app: what answers.
            drain_s: seconds that requests under way get to finish.
            ready: called once requests are answered.
        """
        capacity = Capacity.of_this_process()
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=capacity.connections,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(drain_s) + _LAST_S,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs the server."""
        yield


async def host(
    app: ASGIApp,
    listener: socket.socket,
    signals: StopSignal,
    *,
    url: str,
    ready_file: Path | None,
    stop: Callable[[], None],
    drain_s: float,
) -> None:
    """Answer requests until a signal, call `stop`, let the requests under way finish, and stop."""
    loop = asyncio.get_running_loop()

    def ready() -> None:
        signals.serve_with(wake)
        logger.info("ready at %s (pid %d)", url, os.getpid())
        answering.enter_context(announced(ready_file, url))

    def wake() -> None:
        loop.call_soon_threadsafe(leave)

    def leave() -> None:
        logger.info("stopping")
        stop()
        server.should_exit = True

    server = AgentHost(app, drain_s=drain_s, ready=ready)
    with contextlib.ExitStack() as answering:
        await server.serve(sockets=[listener])
    logger.info("stopped")
