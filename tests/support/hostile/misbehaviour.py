"""A function for a sandbox: each task is another way to go wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def misbehaving() -> Callable[[bytes], bytes]:
    """The function."""
    return misbehave


def misbehave(task: bytes) -> bytes:
    """What the task names; anything else is turned round."""
    match task:
        case b"hang":
            while True:  # asleep: burning the processor would only slow the tests beside it
                signal.pause()
        case b"raise":
            raise AssertionError("a parser\nfailed")
        case b"die":
            os._exit(7)
        case b"eat":
            return b"x" * (8 << 30)
        case b"secret":
            return os.environ.get("OPENAI_API_KEY", "none").encode()
        case b"pid":
            return str(os.getpid()).encode()
    return task[::-1]
