"""Several equal servers of one service: which one to ask next, and which to leave alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a replica is left alone. Times in seconds."""

    failures: int = 3
    """Failures in a row that open its circuit, at least 1."""
    cooldown: float = 1.0
    """How long it is then passed over, before one search tries it again; doubles each time that one fails."""
    max_cooldown: float = 30.0

    def __post_init__(self) -> None:
        """Raise ValueError for a policy that makes no sense."""
        if self.failures < 1 or self.cooldown < 0 or self.max_cooldown < self.cooldown:
            raise ValueError(f"expected failures >= 1 and 0 <= cooldown <= max_cooldown, found {self}")


@dataclass(slots=True, eq=False)
class Replica:
    """One server, and how it has been doing."""

    url: str
    outstanding: int = 0
    """Requests under way."""
    failures: int = 0
    """In a row."""
    open_until: float = 0.0
    """Passed over until then, on the pool's clock; 0: its circuit is closed."""
    cooldown: float = 0.0
    """Length of its next rest."""


@dataclass(slots=True)
class ReplicaPool:
    """Least outstanding requests first, among equals the one without failures, open circuits last.

    A circuit only orders the replicas: where all are open, the one that opened first is asked anyway, so that a
    service with a single address is retried exactly as the retry policy says. When a rest is over, one request at a
    time tries the replica; the first success closes its circuit.
    """

    replicas: Sequence[Replica]
    policy: BreakerPolicy = field(default_factory=BreakerPolicy)
    clock: Callable[[], float] = time.monotonic
    turn: int = 0
    """Which one is first among equals. Where each client starts by chance, many do not all begin at one address."""

    def pick(self, avoid: Collection[Replica] = ()) -> Replica:
        """The replica to ask next, one of `avoid` only where there is no other."""
        now = self.clock()
        # Starting one further each time, because the first of equals is taken.
        self.turn = (self.turn + 1) % len(self.replicas)
        turned = [*self.replicas[self.turn :], *self.replicas[: self.turn]]

        def rank(replica: Replica) -> tuple[bool, float, int, int]:
            rests_until = 0.0 if self._is_open_to(replica, now) else replica.open_until
            return replica in avoid, rests_until, replica.outstanding, replica.failures

        return min(turned, key=rank)

    def has_other(self, avoid: Collection[Replica]) -> bool:
        """Whether a replica outside `avoid` may be asked now."""
        now = self.clock()
        return any(self._is_open_to(each, now) for each in self.replicas if each not in avoid)

    def succeeded(self, replica: Replica) -> None:
        """It answered: its circuit closes."""
        replica.failures, replica.open_until, replica.cooldown = 0, 0.0, 0.0

    def failed(self, replica: Replica, retry_after: float | None = None) -> None:
        """It did not answer, or asked for a rest of `retry_after` seconds."""
        now = self.clock()
        replica.failures += 1
        # Only the first of many failures at once: the others were sent before its circuit opened.
        if replica.failures >= self.policy.failures and now >= replica.open_until:
            rest = replica.cooldown or self.policy.cooldown
            replica.open_until = now + rest
            replica.cooldown = min(2 * rest, self.policy.max_cooldown)
        if retry_after is not None:
            replica.open_until = max(replica.open_until, now + retry_after)

    def _is_open_to(self, replica: Replica, now: float) -> bool:
        if not replica.open_until:
            return True
        return now >= replica.open_until and not replica.outstanding
