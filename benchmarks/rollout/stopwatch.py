"""Processor time that coroutines spend running (not waiting), by owner."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Stopwatch:
    """Accumulates the processor time of the coroutines that it drives, in seconds of this thread.

    A coroutine that is driven inside another one's counts in both: subtract to get the outer one's own.
    """

    seconds: float = 0.0

    def time(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The coroutine as an awaitable whose steps are timed."""
        return _Timed(coroutine, self)


@dataclass
class _Timed(Awaitable[T]):
    coroutine: Coroutine[Any, Any, T]
    watch: Stopwatch

    def __await__(self) -> Generator[Any, Any, T]:
        value: Any = None
        error: BaseException | None = None
        while True:
            started = time.thread_time()
            try:
                waits_for = self.coroutine.send(value) if error is None else self.coroutine.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                self.watch.seconds += time.thread_time() - started
            value, error = None, None
            try:
                value = yield waits_for
            except BaseException as thrown:  # a cancellation, too, belongs to the coroutine
                error = thrown
