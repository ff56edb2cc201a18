"""A call to an outside service, tried again within bounds, and counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from foundation.retry import ClientStats, RetryPolicy
from retriever.errors import RetrieverError, RetrieverUnavailable, gave_up

T = TypeVar("T")
Call = Callable[[int, float], Awaitable[T]]
"""One attempt: (failures so far, seconds left of the deadline) to its result."""


class Attempts:
    """Runs calls under one retry policy. Usable from several event loops."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        # Own generator: drawing from the global one would change what a seeded training run samples.
        self._random = random.Random()
        self.stats = ClientStats()

    async def run(
        self,
        call: Call[T],
        *,
        turn: Callable[[], Awaitable[None]] | None = None,
        again: Callable[[RetrieverError], bool] = lambda error: error.transient,
    ) -> T:
        """The first result of `call`.

        Args:
            call: one attempt; only `RetrieverError` is an outside failure, anything else is a bug and is passed on.
            turn: waited for before every attempt. The deadline starts after the first, so that a long queue in front
                of a healthy service fails no search.
            again: whether a failure is worth another attempt.

        Raises:
            RetrieverError: that of the last attempt that the policy allows.
        """
        started = time.monotonic()
        try:
            if turn is not None:
                await turn()
            result = await self._run(call, turn, again)
        except RetrieverError as error:
            self.stats.failures[error.kind] += 1
            self._count(started)
            raise
        self._count(started)
        return result

    async def _run(
        self, call: Call[T], turn: Callable[[], Awaitable[None]] | None, again: Callable[[RetrieverError], bool]
    ) -> T:
        policy, failures = self._policy, 0
        give_up_at = time.monotonic() + policy.deadline
        while True:
            try:
                # The wait before may overrun by a hair, and HTTP libraries read 0 as "no limit".
                return await call(failures, max(give_up_at - time.monotonic(), 0.001))
            except RetrieverError as error:
                failures += 1
                if not again(error):
                    raise
                if failures >= policy.attempts:
                    raise gave_up(error, f"attempt {failures} of {policy.attempts}") from error
                retry_after = error.retry_after_s if isinstance(error, RetrieverUnavailable) else None
                wait = policy.wait(failures, retry_after, self._random.random())
                if time.monotonic() + wait >= give_up_at:
                    left = f"the next one in {wait:.3g} s is past the deadline of {policy.deadline:g} s"
                    raise gave_up(error, f"attempt {failures}; {left}") from error
            self.stats.retries += 1
            await asyncio.sleep(wait)
            if turn is not None:
                await turn()

    def _count(self, started: float) -> None:
        self.stats.searches += 1
        self.stats.seconds += time.monotonic() - started
