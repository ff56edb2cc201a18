"""Hosts the search service on waitress: answers while loading, serves until a signal, then finishes what is under way.

waitress has no public way to answer while its app still loads, or to finish requests before it stops. So its loop is
driven here, through names that it keeps to itself (`_map`, `task_dispatcher`, `asyncore`); its version is pinned.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.files import write_whole
from foundation.process import StopSignal
from retriever.server.search_service import SearchService

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

_DRAIN_S = 10.0
"""Longest time that requests under way get to finish when the server stops."""

_MANY_CALLERS = 8
_GATHER_S = 0.002
"""waitress looks at every connection for each event: with many callers, events of so many seconds are handled at
once, which leaves an encoder a tenth more of the processors."""


class HttpServer:
    """A listening waitress server, driven by the thread that calls `load` and `serve`."""

    def __init__(self, app: Flask, listener: socket.socket, *, threads: int, max_body_bytes: int) -> None:
        """Listen; requests are answered while `load` or `serve` runs.

        Raises:
            ImportError: waitress is missing.
        """
        try:
            waitress = import_module("waitress.server")
        except ImportError as error:
            raise ImportError("the retriever server needs waitress: pip install waitress") from error
        # It warns of every request that waits for a thread, the ordinary case under a step's worth of episodes.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._server: Any = waitress.create_server(
            app,
            sockets=[listener],
            threads=threads,
            connection_limit=4096,
            backlog=2048,
            asyncore_use_poll=True,
            # Twice the app's limit, so that the app words the refusal; waitress's own is not JSON.
            max_request_body_size=2 * max_body_bytes,
            ident="retriever",
        )

    def load(self, work: Callable[[], None]) -> None:
        """Answer requests while `work` runs in a thread of its own; what it raises is raised here."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:  # handed on to the caller's thread
                failures.append(error)
            finally:
                self._server.pull_trigger()

        # A daemon: a signal in the middle of loading ends the process at once.
        thread = threading.Thread(target=run, name="load", daemon=True)
        thread.start()
        while thread.is_alive():
            self._poll(0.1)
        if failures:
            raise failures[0]

    def serve(self, service: SearchService, signals: StopSignal, ready_file: Path | None, url: str) -> None:
        """Answer requests until a signal, then let those under way finish, and stop."""
        signals.serve_with(self._server.pull_trigger)
        logger.info("ready at %s (pid %d)", url, os.getpid())
        if ready_file is not None:
            write_whole(ready_file, url + "\n")
        while not signals.stopping:
            self._poll(1.0)
            if len(self._server.active_channels) >= _MANY_CALLERS:
                time.sleep(_GATHER_S)
        service.stop()
        self._server.accepting = False
        give_up_at = time.monotonic() + _DRAIN_S
        while time.monotonic() < give_up_at and self._busy():
            self._poll(0.1)
        self.close()
        logger.info("stopped")

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._server.task_dispatcher.shutdown(timeout=0.1)
        self._server.asyncore.close_all(self._server._map)

    def _busy(self) -> bool:
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _poll(self, seconds: float) -> None:
        self._server.asyncore.loop(timeout=seconds, map=self._server._map, use_poll=True, count=1)
