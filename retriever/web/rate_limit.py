"""Rate limits: a token bucket for each host."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from retriever.errors import LimitReached


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests to one host."""

    per_second: float
    """In the long run, above 0."""
    burst: int = 1
    """At once after a rest, at least 1."""

    def __post_init__(self) -> None:
        """Raise ValueError for a rate that lets nothing through."""
        if not self.per_second > 0 or self.burst < 1:
            raise ValueError(f"a rate needs per_second > 0 and burst >= 1, found {self.per_second} and {self.burst}")


class RateLimits:
    """One bucket per host, shared by all searches of a process. Safe in many threads and event loops."""

    MOST_HOSTS = 10_000
    """Buckets kept; the one unused for longest is forgotten first, and starts full when its host is asked again."""

    def __init__(self, rate: Rate, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = {}
        """When each host's bucket is full again."""

    async def turn(self, host: str, within_s: float = math.inf) -> None:
        """Wait until the host may be asked.

        Raises:
            LimitReached: that takes longer than `within_s` seconds; no turn is taken.
        """
        wait = self.reserve(host, within_s)
        if wait is None:
            raise LimitReached(f"{host} is asked so often that its next turn is more than {within_s:.3g} s away")
        if wait > 0:
            await asyncio.sleep(wait)

    def reserve(self, host: str, within_s: float = math.inf) -> float | None:
        """Take one token, on credit where there is none; the seconds until it is good, None where they are too many."""
        now, cost = self._clock(), 1 / self._rate.per_second
        with self._lock:
            before = self._free_at.pop(host, now)
            full_at = max(before, now) + cost
            wait = max(0.0, full_at - now - self._rate.burst * cost)
            taken = wait <= within_s
            self._free_at[host] = full_at if taken else before
            if len(self._free_at) > self.MOST_HOSTS:
                del self._free_at[next(iter(self._free_at))]
        return wait if taken else None
