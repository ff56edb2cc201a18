"""Shared by clients within one event loop: connections, and the answers to equal questions under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop, made when first needed.

    Connections and locks belong to their loop; those of finished loops cannot be closed any more, only let go.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """The running loop's object."""
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            for finished in [known for known in self._made if known.is_closed()]:
                del self._made[finished]
            self._made[loop] = self._make()
        return self._made[loop]

    def pop(self) -> T | None:
        """The running loop's object, if there is one, which is forgotten."""
        return self._made.pop(asyncio.get_running_loop(), None)


class AskedOnce(Generic[T]):
    """Equal questions that are under way at the same time, in one event loop, are asked once."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[asyncio.AbstractEventLoop, Hashable], asyncio.Task[T]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to the question of this key, from whoever asks already, or by asking."""
        place = (asyncio.get_running_loop(), key)
        if place not in self._under_way:
            task = asyncio.create_task(question())
            self._under_way[place] = task
            task.add_done_callback(lambda done: self._finished(place, done))
        # Shielded: who gives up waiting does not take the answer from the others.
        return await asyncio.shield(self._under_way[place])

    def _finished(self, place: tuple[asyncio.AbstractEventLoop, Hashable], task: asyncio.Task[T]) -> None:
        del self._under_way[place]
        if not task.cancelled():
            task.exception()  # now seen, also where nobody waits any more
