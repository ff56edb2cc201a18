"""Files that appear whole or not at all, and folders that one process at a time builds in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_DRAFT = ".draft"
LOCK_NAME = ".lock"


class FolderBusy(ValueError):
    """Another process is building in the folder."""


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an exception.

    A process killed at any moment leaves either no `path` or a whole one. What it leaves of the draft is
    removed by the next `claim` of the folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_DRAFT}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object as a whole file."""
    with draft(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


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
        for left in folder.glob(f".*{_DRAFT}"):
            left.unlink()
        yield
