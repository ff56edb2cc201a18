"""Answers that end early once their reader has gone: server-sent events, and work that a client waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from foundation.json_lines import encoded

KEEP_ALIVE_S = 15.0
"""Silence after which a comment is sent, so that no proxy takes the connection for dead."""
_READ_S = 60.0
"""A reader that takes nothing for so long is gone."""

Tell = Callable[[bytes], None]
Produce = Callable[[Tell], Awaitable[None]]
T = TypeVar("T")


class HungUp(Exception):
    """The client has closed its connection."""


def event(value: Mapping[str, Any]) -> bytes:
    """A server-sent event that carries a JSON object."""
    return b"data: " + encoded(value) + b"\n\n"


async def unless_hung_up(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; it is cancelled where the client goes. Raises `HungUp` then."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUp
        return working.result()
    finally:
        await _end(working, gone)


class EventStream:
    """A response of server-sent events, made by a coroutine that is cancelled where the reader goes."""

    def __init__(self, produce: Produce, done: Callable[[], None]) -> None:
        """`produce` is given the function that sends; `done` is called at the end, even where that never began."""
        self._produce = produce
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        headers.append((b"x-accel-buffering", b"no"))  # of nginx, which would hold events back
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def produce() -> None:
            try:
                await self._produce(pieces.put_nowait)
            finally:
                pieces.put_nowait(None)

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            more = True
            while more:
                waiting = [await _next(pieces)]
                while not pieces.empty():
                    waiting.append(pieces.get_nowait())
                more = waiting[-1] is not None
                body = b"".join(piece for piece in waiting if piece is not None)
                async with asyncio.timeout(_READ_S):
                    await send({"type": "http.response.body", "body": body, "more_body": more})

        tasks = [asyncio.create_task(work) for work in (produce(), write(), _gone(receive))]
        producing, writing, gone = tasks
        try:
            await asyncio.wait({writing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                with contextlib.suppress(TimeoutError):
                    writing.result()
            if producing.done():
                producing.result()
        finally:
            await _end(*tasks)
            self._done()


async def _next(pieces: asyncio.Queue[bytes | None]) -> bytes | None:
    """The next piece; a comment after a long silence; None at the end."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            return await pieces.get()
    except TimeoutError:
        return b": waiting\n\n"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what is not done and wait for it, so that nothing is left behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
