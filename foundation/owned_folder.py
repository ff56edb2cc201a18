"""Folders that one process at a time builds in."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from foundation.files import drafts_in

LOCK_NAME = ".lock"


class FolderBusy(ValueError):
    """Another process is building in the folder."""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Create the folder, hold it for this process, and clear away the drafts of a killed one.

    Raises:
        FolderBusy: another live process holds it.
        OSError: the folder cannot be created or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusy(
                f"{folder}: another process is building here; wait for it or use another folder"
            ) from error
        for left in drafts_in(folder):
            left.unlink()
        yield
