"""Search servers in this process, under the real server loop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from foundation.process import bind, url_of
from foundation.web_server import MAX_BODY_BYTES, Access, HttpServer
from retriever.passage import Passage
from retriever.server import __main__ as server_command
from retriever.server.app import create_app
from retriever.server.search_service import SearchService

TOWNS = [Passage(str(i), f"Town {i}", f"The river number {i} flows through the town.") for i in range(20)]


class Stop:
    """What `StopSignal` is to a process, for a server in a thread."""

    def __init__(self) -> None:
        self.stopping = False
        self.wake: Callable[[], None] = lambda: None

    def serve_with(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def now(self) -> None:
        self.stopping = True
        self.wake()


@contextlib.contextmanager
def serve(index, service: SearchService | None = None, **options) -> Iterator[str]:
    """The real app under the real server loop, in a thread; gives the URL. `options` are those of `create_app`."""
    listener, stop, service = bind("127.0.0.1", 0), Stop(), service or SearchService()
    service.open(index)
    app = create_app(service, **options)
    server = HttpServer(
        app,
        listener,
        threads=16,
        max_body_bytes=options.get("max_body_bytes", MAX_BODY_BYTES),
        access=Access(options.get("token")),
    )
    thread = threading.Thread(target=server.serve, args=(stop, None, "", service.stop), daemon=True)
    thread.start()
    yield url_of("127.0.0.1", listener)
    stop.now()
    thread.join(timeout=10)
    assert not thread.is_alive()


@contextlib.contextmanager
def command_served(monkeypatch, ready: Path, flags: Sequence[object]) -> Iterator[str]:
    """The server's command in a thread, on a free port; gives the URL. At the end it must leave with status 0."""
    stop, status = Stop(), []
    monkeypatch.setattr(server_command, "StopSignal", lambda: stop)
    command = [*map(str, flags), "--port", "0", "--ready-file", str(ready)]
    thread = threading.Thread(target=lambda: status.append(server_command.main(command)), daemon=True)
    thread.start()
    give_up_at = time.monotonic() + 30
    while not ready.exists():
        assert thread.is_alive() and time.monotonic() < give_up_at, f"the server did not start with {command}"
        time.sleep(0.01)
    yield ready.read_text().strip()
    stop.now()
    thread.join(timeout=20)
    assert status == [0] and not ready.exists()
