"""The one retry loop: a call to an outside service, retried within bounds, and counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

from foundation.errors import OutsideFailure

T = TypeVar("T")
Call = Callable[[int, float], Awaitable[T]]
"""One attempt: (failures so far, seconds left of the deadline) to its result."""

_ATTEMPTS = 4
_WAITS_S = 60.0
"""What a deadline leaves for the waits between attempts."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long one call is tried. Times in seconds."""

    attempts: int = _ATTEMPTS
    """Requests sent at most, at least 1."""
    backoff: float = 0.5
    """Longest wait after the first failure; doubles with each failure."""
    max_backoff: float = 10.0
    """Longest wait ever, unless the service asks for more with Retry-After."""
    deadline: float = 180.0
    """From the first request to the result, all attempts and waits together."""

    def __post_init__(self) -> None:
        """Raise ValueError for a policy that could never send a request."""
        if self.attempts < 1 or self.backoff < 0 or self.max_backoff < 0 or self.deadline <= 0:
            raise ValueError(f"expected attempts >= 1, waits >= 0 and deadline > 0, found {self}")

    @classmethod
    def of_timeout(cls, seconds: float, attempts: int = _ATTEMPTS) -> RetryPolicy:
        """The policy whose deadline lets every attempt take `seconds`: a shorter one would undercut a long time-out."""
        return cls(attempts, deadline=seconds * attempts + _WAITS_S)

    def wait(self, failures: int, retry_after: float | None, jitter: float) -> float:
        """Seconds until the next attempt.

        Args:
            failures: attempts failed so far, at least 1.
            retry_after: seconds the service asked for, if it did; never undercut.
            jitter: in [0, 1); spreads concurrent callers over the upper half of the backoff.
        """
        ceiling = min(self.max_backoff, self.backoff * 2.0 ** min(failures - 1, 60))
        return (retry_after or 0.0) + ceiling * (0.5 + jitter / 2)


@dataclass(slots=True)
class CallStats:
    """Running counts of one client."""

    calls: int = 0
    """Calls finished, well or not (cancelled ones excepted)."""
    retries: int = 0
    """Requests sent beyond the first of each call."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed calls by `OutsideFailure.kind`."""
    seconds: float = 0.0
    """Time spent in calls, waits for a free connection included, summed over concurrent ones."""

    def snapshot(self) -> CallStats:
        """A copy that stands still."""
        return replace(self, failures=Counter(self.failures))


class Attempts:
    """Runs calls under one retry policy. Usable from several event loops."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        # Own generator: drawing from the global one would change what a seeded training run samples.
        self._random = random.Random()
        self.stats = CallStats()

    async def run(
        self,
        call: Call[T],
        *,
        slot: AbstractAsyncContextManager[object] | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
        again: Callable[[OutsideFailure], bool] = lambda error: error.transient,
        at_once: Callable[[], bool] = lambda: False,
    ) -> T:
        """The first result of `call`.

        The deadline starts once slot and turn are there, so that a long queue in front of a healthy service fails
        no call.

        Args:
            call: one attempt; only `OutsideFailure` is an outside failure, anything else is a bug and is passed on.
            slot: held during all attempts and waits, such as a place among the connections.
            turn: waited for before every attempt, such as a rate limit.
            again: whether a failure is worth another attempt.
            at_once: whether the next attempt needs no wait, because another server stands in; asked after a failure.

        Raises:
            OutsideFailure: that of the last attempt that the policy allows, with the number of attempts.
        """
        with self._counted():
            async with slot or nullcontext():
                if turn is not None:
                    await turn()
                give_up_at, failures = time.monotonic() + self._policy.deadline, 0
                while True:
                    try:
                        # The wait before may overrun by a hair, and HTTP libraries read 0 as "no limit".
                        return await call(failures, max(give_up_at - time.monotonic(), 0.001))
                    except OutsideFailure as error:
                        failures += 1
                        error.attempts = failures
                        if not again(error):
                            raise
                        wait = self._wait_after(error, 0.0 if at_once() else None, give_up_at)
                    self.stats.retries += 1
                    await asyncio.sleep(wait)
                    if turn is not None:
                        await turn()

    def _wait_after(self, error: OutsideFailure, wait: float | None, give_up_at: float) -> float:
        """Seconds until the next attempt, by the policy unless given. Raises the failure where there is none."""
        policy, failures = self._policy, error.attempts
        if failures >= policy.attempts:
            raise _gave_up(error, f"attempt {failures} of {policy.attempts}") from error
        if wait is None:
            wait = policy.wait(failures, error.retry_after_s, self._random.random())
        if time.monotonic() + wait >= give_up_at:
            left = f"the next one in {wait:.3g} s is past the deadline of {policy.deadline:g} s"
            raise _gave_up(error, f"attempt {failures}; {left}") from error
        return wait

    @contextmanager
    def _counted(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except OutsideFailure as error:
            self.stats.failures[error.kind] += 1
            self._count(started)
            raise
        self._count(started)

    def _count(self, started: float) -> None:
        self.stats.calls += 1
        self.stats.seconds += time.monotonic() - started


def _gave_up(error: OutsideFailure, why: str) -> OutsideFailure:
    """The same failure after the last attempt, for `raise ... from error`."""
    message = f"{error} (gave up after {why})"
    last = type(error)(message, status=error.status, reason=error.reason, retry_after_s=error.retry_after_s)
    last.attempts = error.attempts
    return last
