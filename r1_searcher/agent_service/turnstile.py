"""How many episodes are played at once, and how many requests may queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType


class Full(Exception):
    """As many wait already as may wait."""


class Turnstile:
    """Lets so many through at once; the others wait in their order. Of one event loop."""

    def __init__(self, at_once: int, waiting: int) -> None:
        """`waiting`: how many may stand in line; beyond that, `place` refuses."""
        self._at_once, self._most_waiting = at_once, waiting
        self.running = 0
        self._line: deque[Place] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def place(self, moved: Callable[[int], None] = lambda position: None) -> Place:
        """A place inside or in the line, which must be left again.

        Args:
            moved: is told the place in the line, from 1, whenever it changes.

        Raises:
            Full: the line is too long.
        """
        place = Place(self, moved)
        if self.running < self._at_once:
            self._admit(place)
        elif len(self._line) >= self._most_waiting:
            raise Full
        else:
            self._line.append(place)
            moved(len(self._line))
        return place

    def send_away(self, error: Exception) -> None:
        """Raise this in everybody who stands in line."""
        while self._line:
            self._line.popleft().admitted.set_exception(error)

    def _admit(self, place: Place) -> None:
        self.running += 1
        place.admitted.set_result(None)

    def _leave(self, place: Place) -> None:
        if place in self._line:
            self._line.remove(place)
        elif place.admitted.done() and not place.admitted.cancelled() and place.admitted.exception() is None:
            self.running -= 1
            if self._line:
                self._admit(self._line.popleft())
        else:
            return
        for position, other in enumerate(self._line, start=1):
            other.moved(position)


class Place:
    """One who wants through: `with place: await place.turn()`."""

    def __init__(self, turnstile: Turnstile, moved: Callable[[int], None]) -> None:
        self._turnstile = turnstile
        self._left = False
        self.moved = moved
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def turn(self) -> None:
        """Wait until it is this one's turn. Raises what `Turnstile.send_away` was given."""
        await asyncio.shield(self.admitted)  # who is cancelled has a place to leave nevertheless

    def leave(self) -> None:
        """Make room for the next; a second time nothing happens."""
        if not self._left:
            self._left = True
            self._turnstile._leave(self)
