"""ASGI apps of this process, over real HTTP: on uvicorn, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from foundation.process import bind


@contextmanager
def serve_asgi(app: Any, port: int = 0) -> Iterator[str]:
    """The app on a port of this machine (0: a free one); gives its address."""
    listener = bind("127.0.0.1", port)
    listener.listen(256)  # who is told the address may connect at once
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="auto", timeout_graceful_shutdown=0))
    thread = threading.Thread(target=_run, args=(server, listener), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=60)
        listener.close()
        assert not thread.is_alive()


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    asyncio.run(server.serve(sockets=[listener]))
