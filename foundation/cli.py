"""What the commands of this package share: statuses, and one line per error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from foundation.errors import InputError, RunAborted

BAD_INPUT = 2
"""Exit status where what the user gave cannot work."""
ABORTED = 3
"""Exit status where an outside service, or the disk, ended the run."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def run_command(name: str, run: Callable[[], None]) -> int:
    """Exit status of `run()`; an expected error is one line on stderr, a bug raises."""
    try:
        run()
    except (InputError, RunAborted) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else ABORTED
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


def check_output(path: Path | None) -> None:
    """Refuse an output file whose folder is missing, before any work is done. Raises `InputError`."""
    if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
        raise InputError(f"cannot write {path}: expected a file in an existing folder")
