"""When a failed search is retried, and the counts of a client."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long one search is tried. Times in seconds."""

    attempts: int = 4
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
            raise ValueError(f"expected attempts >= 1, waits >= 0 and deadline > 0, got {self}")

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
class ClientStats:
    """Running counts of one client."""

    searches: int = 0
    """Searches finished, well or not (cancelled ones excepted)."""
    retries: int = 0
    """Requests sent beyond the first of each search."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed searches by `RetrieverError.kind`."""
    seconds: float = 0.0
    """Time spent in searches, waits for a free connection included, summed over concurrent ones."""

    def snapshot(self) -> ClientStats:
        """A copy that stands still."""
        return replace(self, failures=Counter(self.failures))
