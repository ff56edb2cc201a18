"""The errors that a user meets, as one tree.

    R1SearcherError
    ├── InputError          what the user gave cannot work; raised before anything is started
    ├── RunAborted          an outside service stayed down past its bound; the checkpoint is intact
    └── OutsideFailure      a service outside this process gave no usable reply
        ├── Unavailable     no answer to be had: refused, broken off, busy (429) or failing (5xx)
        ├── TimedOut        no complete answer in time
        ├── BadResponse     an answer that cannot be used: garbage, wrong shape, too large
        └── Rejected        the request was refused (other 4xx); the same request would be refused again

Those of the search service are `retriever.errors`, leaf by leaf. A bug is none of these: it raises as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeVar

Row = TypeVar("Row")


class R1SearcherError(Exception):
    """Base of the errors that are reported as one line, without a traceback."""


class InputError(R1SearcherError):
    """A flag, file or model that cannot work: what was seen, what was expected, what to do."""


class RunAborted(R1SearcherError):
    """The run cannot continue, through no fault of the policy; it can be resumed from its last checkpoint."""


class OutsideFailure(R1SearcherError):
    """A service outside this process gave no usable reply. The message says what failed, what was seen, what to do."""

    kind: ClassVar[str] = "error"
    """Name in metrics and counts."""
    transient: ClassVar[bool] = False
    """Whether the same request may succeed later."""

    def __init__(
        self, message: str, *, status: int | None = None, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        # It quotes strangers; escape sequences would reach the terminal of whoever reads the log.
        super().__init__(visible(message))
        self.status = status
        """HTTP status, where there was an answer with an unwelcome one."""
        self.reason = visible(reason)
        """The service's own words."""
        self.retry_after_s = retry_after_s
        """Seconds the service asked to wait before the next attempt, if it did."""
        self.attempts = 1
        """Requests sent in vain; above 1 where it was tried again."""


class Unavailable(OutsideFailure):
    """The service cannot be reached, is busy, or keeps failing."""

    kind = "unavailable"
    transient = True


class TimedOut(OutsideFailure):
    """No complete answer in time."""

    kind = "timeout"
    transient = True


class BadResponse(OutsideFailure):
    """An answer arrived and cannot be used."""

    kind = "bad_response"


class Rejected(OutsideFailure):
    """The service refused the request as wrong."""

    kind = "rejected"


def found_in(table: Mapping[str, Row], kind: str, name: str) -> Row:
    """The row of this name. Raises `InputError` naming the known ones of its kind."""
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}; known: {', '.join(table)}")
    return table[name]


def visible(text: str) -> str:
    """The text with a space for each character that is none to see: line ends, escapes, marks of direction."""
    return "".join(character if character.isprintable() else " " for character in text)
