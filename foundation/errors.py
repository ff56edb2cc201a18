"""The errors that a user meets, as one tree.

    R1SearcherError
    ├── InputError          what the user gave cannot work; raised before anything is started
    └── RunAborted          an outside service stayed down past its bound; the checkpoint is intact

Failures of the search service itself are typed in `retriever.errors`. A bug is none of these: it raises as
what it is.
"""

from __future__ import annotations


class R1SearcherError(Exception):
    """Base of the errors that are reported as one line, without a traceback."""


class InputError(R1SearcherError):
    """A flag, file or model that cannot work: what was seen, what was expected, what to do."""


class RunAborted(R1SearcherError):
    """The run cannot continue, through no fault of the policy; it can be resumed from its last checkpoint."""
