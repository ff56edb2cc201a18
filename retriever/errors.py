"""The typed failures of a search: the leaves of `foundation.errors`, for searches.

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

from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import BadResponse, OutsideFailure, Rejected, TimedOut, Unavailable


class RetrieverError(OutsideFailure):
    """An outside failure of a search. The message says what failed, what was seen and what to do."""


class RetrieverUnavailable(RetrieverError, Unavailable):
    """The service cannot be reached, is busy, or keeps failing."""


class RetrieverTimeout(RetrieverError, TimedOut):
    """No complete answer in time."""


class RetrieverBadResponse(RetrieverError, BadResponse):
    """An answer arrived and cannot be used."""


class RetrieverRejected(RetrieverError, Rejected):
    """The service refused the request as wrong."""


class LimitReached(RetrieverUnavailable):
    """A limit of this machine was reached, such as a rate or the readers of pages: nobody else's fault."""

    transient = False


_LEAVES: dict[str, type[RetrieverError]] = {
    leaf.kind: leaf for leaf in (RetrieverUnavailable, RetrieverTimeout, RetrieverBadResponse, RetrieverRejected)
}


def search_failure(error: OutsideFailure) -> RetrieverError:
    """The failure of any outside service, such as a language model, as the `RetrieverError` of its kind."""
    if isinstance(error, RetrieverError):
        return error
    failure = _LEAVES[error.kind](
        str(error), status=error.status, reason=error.reason, retry_after_s=error.retry_after_s
    )
    failure.attempts = error.attempts
    return failure


@contextmanager
def search_failures() -> Iterator[None]:
    """Raise the failure of any outside service as the `RetrieverError` of its kind."""
    try:
        yield
    except RetrieverError:
        raise
    except OutsideFailure as error:
        raise search_failure(error) from error
