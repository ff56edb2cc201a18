"""Maps an HTTP status to the outcome of a search."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from retriever.client.transport import Reply
from retriever.errors import RetrieverBadResponse, RetrieverRejected, RetrieverUnavailable
from retriever.wire import bodies as wire

_BUSY_STATUSES = frozenset({408, 425, 429})
"""The 4xx that say "later" instead of "wrong"."""


def checked(reply: Reply, url: str) -> bytes:
    """The body of a 200 answer; every other status raises its error.

    Raises:
        RetrieverUnavailable: 5xx, or a 4xx that says "later".
        RetrieverRejected: any other 4xx.
        RetrieverBadResponse: a status that no search should have.
    """
    if reply.status == 200:
        return reply.body
    reason = wire.decode_error(reply.body)
    said = f"{url} answered {reply.status}: {reason or 'no message'}"
    if reply.status in _BUSY_STATUSES or reply.status >= 500:
        raise RetrieverUnavailable(said, retry_after_s=_retry_after(reply.headers.get("retry-after")))
    if 400 <= reply.status < 500:
        raise RetrieverRejected(said, status=reply.status, reason=reason)
    raise RetrieverBadResponse(f"{said}; expected 200, check the retriever URL")


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header (seconds or a date); None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
