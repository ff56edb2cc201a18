"""What the trainer does when the search service fails: wait, play the episode again, give up in time.

An episode whose search failed past the client's retries is thrown away, logged, counted, and played again once the
service answers. Nothing of it is trained on. The service is all that episodes ask: what searches, and what reads
pages where the protocol browses. A question that fails `ATTEMPTS` times while others succeed is handed on with an
all-zero action mask. A service that stays down for `outage_seconds`, or that calls itself healthy but fails every
episode of several questions that ask it, ends the run instead of steps that teach nothing. (Where a step has one
question only, it may still be such a step: `r1_searcher.host.patches.empty_masks`.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from foundation.errors import RunAborted
from r1_searcher.episode.trajectory import StopReason, Trajectory

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""Times that one episode is played at most."""
FRUITLESS_REOPENINGS = 3
"""Times in a row that the service may call itself healthy and then fail every episode of several questions.

Below `ATTEMPTS`: such a service ends the run before any episode has used up its attempts.
"""


@dataclass
class OutageGate:
    """Shared by the concurrent episodes of one engine.

    The first failed search closes it; it opens again when the service is healthy. The time
    between two openings is an epoch, and a failure counts only against the epoch that its attempt began in:
    requests that hung during an outage fail late.
    """

    healthy: Callable[[], Awaitable[bool]]
    """Whether everything that episodes ask answers."""
    outage_seconds: float
    """Longest outage that is waited out."""
    poll_seconds: float = 1.0
    _epoch: int = 0
    _down_since: float | None = None
    _last_error: str = ""
    _fruitless: int = 0
    _failed_questions: dict[str, set[str]] = field(default_factory=dict)
    """By tool: the questions that failed in it since an episode that used it last worked. Without tools, it is ""."""
    _aborted: str = ""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def attempts(self, play: Callable[[], Awaitable[Trajectory]]) -> AsyncIterator[tuple[int, Trajectory]]:
        """Play an episode until its searches work; yields the number of each attempt, from 0, and what was played.

        The last one is the one to use.

        Raises:
            RunAborted: the service stayed down, or healthy but useless, past the bounds.
        """
        for attempt in range(ATTEMPTS):
            await self._wait_until_open()
            epoch = self._epoch
            trajectory = await play()
            self._note(trajectory, epoch)
            yield attempt, trajectory
            if trajectory.stop_reason is not StopReason.RETRIEVER_ERROR:
                return

    def _note(self, trajectory: Trajectory, epoch: int) -> None:
        if trajectory.stop_reason is not StopReason.RETRIEVER_ERROR:
            for tool in {search.tool for search in trajectory.searches}:
                self._failed_questions.pop(tool, None)
            if not self._failed_questions:
                self._fruitless = 0
            return
        failed = next(search for search in reversed(trajectory.searches) if search.error)
        self._last_error = failed.error
        if epoch == self._epoch:
            self._failed_questions.setdefault(failed.tool, set()).add(trajectory.row.id)
            if self._down_since is None:
                self._down_since = time.monotonic()
                logger.warning("a search failed; waiting for the search service: %s", self._last_error)

    async def _wait_until_open(self) -> None:
        async with self._lock:
            if self._down_since is not None and not self._aborted:
                await self._wait_until_healthy(self._down_since)
            if self._aborted:
                raise RunAborted(self._aborted)

    async def _wait_until_healthy(self, since: float) -> None:
        while not await self.healthy():
            waited = time.monotonic() - since
            if waited > self.outage_seconds:
                self._aborted = (
                    f"the search service has been down for {waited:.0f} s (bound: {self.outage_seconds:.0f} s); "
                    f"last failure: {self._last_error}. Start it and run the same command again: the run continues "
                    "from its last checkpoint."
                )
                return
            await asyncio.sleep(self.poll_seconds)
        logger.warning("the search service answers again after %.0f s", time.monotonic() - since)
        self._down_since = None
        self._epoch += 1
        self._fruitless += 1
        if self._fruitless >= FRUITLESS_REOPENINGS and any(len(each) > 1 for each in self._failed_questions.values()):
            self._aborted = (
                "the search service calls itself healthy, but a search fails in every episode; last failure: "
                f"{self._last_error}. Fix it and run the same command again: the run resumes from its last checkpoint."
            )
