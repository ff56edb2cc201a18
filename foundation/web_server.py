"""Hosts a WSGI app on waitress, bounded in connections and bodies.

It answers while the app loads, and ends once the requests under way are answered.

waitress has no public way to answer while its app still loads, to finish requests before it stops, to close idle
connections when others wait, or to refuse a body before it is stored. So its loop is driven here, through names that it
keeps to itself (`_map`, `task_dispatcher`, `asyncore`, `channel_class`, `parser_class`); its version is pinned.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import ipaddress
import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.cli import port, positive
from foundation.files import write_whole
from foundation.process import StopSignal, stop_with_parent

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
OPEN_PATH = "/health"
"""Answered without a token: what watches over a service asks nothing secret."""
ENOUGH_FILES = 4096
"""Open files below which a server says that it may run out: 16 engines with 256 connections each."""

_MOST_CONNECTIONS = 8192
_MOST_FILES = 65_536
"""The limit is not raised beyond: where it is a billion, some programs take minutes to close what they never opened."""
_OTHER_FILES = 200
"""Files that are no connections: the index, logs, bodies that waitress keeps in temporary files."""
_FEW_BYTES = 64 * 1024
"""A body up to this size is read before its request is refused: a client that still sends would not see the answer."""

_DRAIN_S = 10.0
"""Longest time that requests under way get to finish when the server stops."""
REST_S = 1.0
"""A connection that was silent for so long, with no request under way, is closed where others wait for its place."""

_MANY_CALLERS = 8
_GATHER_S = 0.002
"""waitress looks at every connection for each event: with many callers, events of so many seconds are handled at
once, which leaves an encoder a tenth more of the processors."""


def add_address_options(
    add: Callable[..., object], *, token: str | None, default: int | None = 0, also: str = "0 picks a free one"
) -> None:
    """Add the options of a service that listens: `--host`, `--port`, and with a token `--token-file`.

    Args:
        add: `add_argument` of a parser or of one of its groups.
        token: environment variable with the token that callers must send; None where the service takes none.
        default: port of a service that is not told one.
        also: what the help says of the port.
    """
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    shown = "" if default is None else " (%(default)s)"
    add("--port", type=port, default=default, metavar="PORT", help=also + shown)
    if token is not None:
        words = f"file with the token that callers must send (default: that in {token})"
        add("--token-file", type=Path, metavar="FILE", help=words)


def add_lifetime_options(add: Callable[..., object]) -> None:
    """Add the options by which whoever starts a service knows when it answers, and ends it: see `begin_lifetime`."""
    add("--ready-file", type=Path, metavar="FILE", help="file to write the URL to, once the service answers")
    words = "stop when the parent process ends; its pid covers a parent that dies before we look"
    add("--exit-with-parent", type=positive, nargs="?", const=0, metavar="PID", help=words)


def begin_lifetime(options: argparse.Namespace) -> None:
    """Follow the options of `add_lifetime_options`; a file of an earlier service would send clients to a wrong address.

    Raises:
        ValueError: the parent is gone already, or there is no folder for the file.
        OSError: the file cannot be deleted.
    """
    if options.exit_with_parent is not None:
        stop_with_parent(options.exit_with_parent or None)
    if options.ready_file is not None:
        if not options.ready_file.absolute().parent.is_dir():
            raise ValueError(f"--ready-file {options.ready_file}: its folder does not exist")
        options.ready_file.unlink(missing_ok=True)


@contextlib.contextmanager
def announced(ready_file: Path | None, url: str) -> Iterator[None]:
    """The URL stands in the file, whole, as long as the service answers."""
    if ready_file is not None:
        write_whole(ready_file, url + "\n")
    try:
        yield
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Capacity:
    """How many connections a server may have open at once."""

    connections: int = 1024
    files: int = ENOUGH_FILES
    """Open files that the system allows this process."""

    @classmethod
    def of_this_process(cls) -> Capacity:
        """What this process can have: raises its limit of open files as far as it may.

        An accept without a free file fails over and over, and the callers that wait hear nothing.
        """
        files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if files < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            files = wanted
        return cls(min(_MOST_CONNECTIONS, max(files - _OTHER_FILES, files // 2)), files)

    def log(self) -> None:
        """Say what there is, and whether it is little."""
        logger.info("open files: at most %d, connections: at most %d", self.files, self.connections)
        if self.files < ENOUGH_FILES:
            logger.warning(
                "%d open files are few for many engines, each of which opens up to 256 connections; raise the hard "
                "limit (ulimit -Hn) to %d",
                self.files,
                ENOUGH_FILES,
            )


def check_token(token: str) -> str:
    """The token, which must be something that an HTTP header can carry. Raises ValueError, without showing it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the token must be printable ASCII without spaces, and not empty")
    return token


def token_of(file: Path | None, variable: str) -> str | None:
    """The token that requests must carry, from a file or the environment: a command line is for all to see.

    Raises:
        ValueError: the file cannot be read, or holds no token that a header can carry.
    """
    if file is None:
        given = os.environ.get(variable)
        return check_token(given) if given else None
    try:
        return check_token(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"--token-file {file}: {reason}") from error


def warn_if_open(host: str, token: str | None) -> None:
    """Say so where everybody who reaches this machine may use the service."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if token is None and not local:
        logger.warning(
            "listening on %s without a token: anyone who reaches this machine may use it; give --token-file",
            host,
        )


class Access:
    """Who may ask: with a token, those who send `Authorization: Bearer <token>`; without one, everybody."""

    def __init__(self, token: str | None) -> None:
        """Raise ValueError for a token that no header can carry."""
        self._expected = None if token is None else f"Bearer {check_token(token)}".encode()

    def allows(self, path: str, authorization: str) -> bool:
        """Whether a request may be answered; the health of a service is no secret."""
        if self._expected is None or path == OPEN_PATH:
            return True
        return hmac.compare_digest(authorization.encode("utf-8", "surrogateescape"), self._expected)

    def guard(self, app: Flask) -> None:
        """Make the app answer 401 to everybody else."""
        from flask import request
        from werkzeug.exceptions import Unauthorized

        @app.before_request
        def check() -> None:
            if not self.allows(request.path, request.headers.get("Authorization", "")):
                raise Unauthorized


class HttpServer:
    """A listening waitress server, driven by the thread that calls `load` and `serve`."""

    def __init__(
        self,
        app: Flask,
        listener: socket.socket,
        *,
        threads: int,
        max_body_bytes: int = MAX_BODY_BYTES,
        access: Access | None = None,
        capacity: Capacity | None = None,
    ) -> None:
        """Listen; requests are answered while `load` or `serve` runs.

        Args:
            app: what answers.
            listener: a bound socket.
            threads: requests at once.
            max_body_bytes: a larger body is refused, where its length is announced before it is read.
            access: who may send more than a few bytes; default everybody. The app itself has to ask for the rest.
            capacity: connections that may be open at once.

        Raises:
            ImportError: waitress is missing.
        """
        try:
            waitress = import_module("waitress.server")
        except ImportError as error:
            raise ImportError("the server needs waitress: pip install waitress") from error
        self._capacity = capacity or Capacity()
        # It warns of every request that waits for a thread, the ordinary case under a step's worth of episodes.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._server: Any = waitress.create_server(
            app,
            sockets=[listener],
            threads=threads,
            connection_limit=self._capacity.connections + 2,  # it counts its listener and its trigger as well
            backlog=2048,
            asyncore_use_poll=True,
            max_request_body_size=max_body_bytes + 1,
            ident=app.name,
        )
        self._server.channel_class = _channel_class(access or Access(None), max_body_bytes)

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

    def serve(
        self, signals: StopSignal, ready_file: Path | None, url: str, stop: Callable[[], None] = lambda: None
    ) -> None:
        """Answer requests until a signal, call `stop`, let the requests under way finish, and stop."""
        signals.serve_with(self._server.pull_trigger)
        self._capacity.log()
        logger.info("ready at %s (pid %d)", url, os.getpid())
        with announced(ready_file, url):
            self._answer_until_a_signal(signals, stop)
        logger.info("stopped")

    def _answer_until_a_signal(self, signals: StopSignal, stop: Callable[[], None]) -> None:
        while not signals.stopping:
            self._poll(1.0)
            if len(self._server.active_channels) >= _MANY_CALLERS:
                time.sleep(_GATHER_S)
        stop()
        self._server.accepting = False
        give_up_at = time.monotonic() + _DRAIN_S
        while time.monotonic() < give_up_at and self._busy():
            self._poll(0.1)
        self.close()

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._server.task_dispatcher.shutdown(timeout=0.1)
        self._server.asyncore.close_all(self._server._map)

    def _busy(self) -> bool:
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _poll(self, seconds: float) -> None:
        full = len(self._server.active_channels) >= self._capacity.connections
        if full:
            self._loop(0.0)  # what has arrived is read first: its sender does not rest
            self._make_room()
        self._loop(min(seconds, 0.1) if full else seconds)

    def _loop(self, seconds: float) -> None:
        self._server.asyncore.loop(timeout=seconds, map=self._server._map, use_poll=True, count=1)

    def _make_room(self) -> None:
        """Close the connections that have rested longest, an eighth of all at most; their owners open new ones."""
        latest = time.time() - REST_S
        resting = [
            channel
            for channel in self._server.active_channels.values()
            if not channel.requests and not channel.total_outbufs_len and channel.last_activity < latest
        ]
        resting.sort(key=lambda channel: channel.last_activity)
        for channel in resting[: max(1, self._capacity.connections // 8)]:
            channel.will_close = True  # as waitress itself ends idle connections, in `maintenance`


def _channel_class(access: Access, max_body_bytes: int) -> type:
    """Waitress's connection, whose requests are refused from their headers where no answer depends on the body."""
    parser: Any = import_module("waitress.parser").HTTPRequestParser
    channel: Any = import_module("waitress.channel").HTTPChannel

    class Parser(parser):
        def received(self, data: bytes) -> int:
            finished = self.headers_finished
            consumed: int = super().received(data)
            refusal = self._refusal() if self.headers_finished and not finished else None
            if refusal is not None:
                self.error, self.completed = refusal, True
            return consumed

        def _refusal(self) -> Any:
            if self.chunked and "CONTENT_LENGTH" in self.headers:  # a proxy before it may have gone by the other
                return _refused(400, "Bad Request", "Content-Length and Transfer-Encoding exclude each other")
            if self.content_length > max_body_bytes:
                return _refused(413, "Request Entity Too Large", f"the body may have at most {max_body_bytes} bytes")
            large = self.chunked or self.content_length > _FEW_BYTES
            if large and not access.allows(self.path, self.headers.get("AUTHORIZATION", "")):
                return _refused(401, "Unauthorized", "send the header 'Authorization: Bearer <token>'")
            return None

    class Channel(channel):
        parser_class = Parser

    return Channel


def _refused(status: int, name: str, what: str) -> Any:
    """An error of waitress that is answered as JSON, as the apps answer."""
    base: Any = import_module("waitress.utilities").Error

    class Refusal(base):
        code, reason = status, name

        def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
            """Status line, headers and body."""
            body: Mapping[str, str] = {"error": f"{name}, {what}"}
            return f"{status} {name}", [("Content-Type", "application/json")], json.dumps(body).encode()

    return Refusal(what)
