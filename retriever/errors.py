"""The typed failures of a search.

    RetrieverError
    ├── RetrieverUnavailable   no answer to be had: refused, broken off, busy (429) or failing (5xx)
    ├── RetrieverTimeout       no answer in time: an attempt's limits or the deadline over all attempts
    ├── RetrieverBadResponse   an answer that cannot be used: garbage, wrong shape, wrong count, too large
    └── RetrieverRejected      the service refused this request (4xx); the same request would be refused again

Callers that only need "the search failed" catch `RetrieverError`; `kind` names the leaf in metrics. The first
two are worth another attempt (`transient`), the last two are not. Wrong arguments (a bad URL, `top_k=0`) are
bugs of the caller and raise `ValueError` or `TypeError` instead.
"""

from __future__ import annotations

from typing import ClassVar


class RetrieverError(Exception):
    """An outside failure of a search. The message says what failed, what was seen and what to do."""

    kind: ClassVar[str] = "error"
    transient: ClassVar[bool] = False


class RetrieverUnavailable(RetrieverError):
    """The service cannot be reached, is busy, or keeps failing."""

    kind = "unavailable"
    transient = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds the service asked to wait before the next attempt, if it did."""


class RetrieverTimeout(RetrieverError):
    """No complete answer in time."""

    kind = "timeout"
    transient = True


class RetrieverBadResponse(RetrieverError):
    """An answer arrived and cannot be used."""

    kind = "bad_response"


class RetrieverRejected(RetrieverError):
    """The service refused the request as wrong."""

    kind = "rejected"

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, 400-499."""
        self.reason = reason
        """The service's own words."""


def gave_up(error: RetrieverError, why: str) -> RetrieverError:
    """The same failure after the last attempt, for `raise ... from error`."""
    said = f"{error} (gave up after {why})"
    if isinstance(error, RetrieverTimeout | RetrieverBadResponse):
        return type(error)(said)
    return RetrieverUnavailable(said)
