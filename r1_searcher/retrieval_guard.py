"""What the trainer does when the search service fails: wait, play the episode again, give up in time.

An episode whose search failed past the client's retries is thrown away, logged, counted, and played again once the
service answers.  Nothing of it is trained on.  An episode that fails :data:`ATTEMPTS` times while others succeed is
handed on with an all-zero action mask.  Whole steps of failed episodes cannot happen: a service that stays down for
``outage_seconds``, or that calls itself healthy but fails every search, ends the run instead.  (In a step whose
every mask is zero the host would divide by the zero number of action tokens, and NaN would reach the weights.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from r1_searcher.errors import RunAborted
from r1_searcher.trajectory import StopReason, Trajectory

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""Times that one episode is played at most."""
FRUITLESS_REOPENINGS = 3
"""Times in a row that the service may call itself healthy without one search succeeding after it.

Below :data:`ATTEMPTS`: a service that fails every search ends the run before any episode has used up its attempts.
"""


@dataclass
class RetrievalGuard:
    """Shared by the concurrent episodes of one engine."""

    healthy: Callable[[], Awaitable[bool]]
    """Whether the search service answers."""
    outage_seconds: float
    """Longest outage that is waited out."""
    poll_seconds: float = 1.0
    last_error: str = ""
    _down_since: float | None = None
    _fruitless: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def attempts(self, play: Callable[[], Awaitable[Trajectory]]) -> AsyncIterator[Trajectory]:
        """Play an episode until its searches work; yields every attempt, the one to use last.

        Raises:
            RunAborted: the service stayed down, or healthy but useless, past the bounds.
        """
        for _ in range(ATTEMPTS):
            await self._wait_until_open()
            trajectory = await play()
            self._note(trajectory)
            yield trajectory
            if trajectory.stop_reason is not StopReason.RETRIEVER_ERROR:
                return

    def _note(self, trajectory: Trajectory) -> None:
        if trajectory.stop_reason is StopReason.RETRIEVER_ERROR:
            self.last_error = trajectory.searches[-1].error
            if self._down_since is None:
                self._down_since = time.monotonic()
                logger.warning("a search failed; waiting for the search service: %s", self.last_error)
        elif trajectory.searches:
            self._fruitless = 0

    async def _wait_until_open(self) -> None:
        async with self._lock:
            if self._down_since is None:
                return
            while not await self.healthy():
                waited = time.monotonic() - self._down_since
                if waited > self.outage_seconds:
                    raise RunAborted(
                        f"the search service has been down for {waited:.0f} s (bound: {self.outage_seconds:.0f} s); "
                        f"last failure: {self.last_error}. Start it and run the same command again: the run goes on "
                        "from its last checkpoint."
                    )
                await asyncio.sleep(self.poll_seconds)
            logger.warning("the search service answers again after %.0f s", time.monotonic() - self._down_since)
            self._down_since = None
            self._fruitless += 1
            if self._fruitless > FRUITLESS_REOPENINGS - 1:
                raise RunAborted(
                    f"the search service calls itself healthy but every search fails; last failure: {self.last_error}"
                )
