"""Files that are written whole or not at all, also on a disk that runs full."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from foundation.errors import InputError, R1SearcherError, RunAborted

_DISK_FAILURES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def is_disk_failure(error: OSError) -> bool:
    """Whether the disk is full or broken, rather than the path wrong."""
    return error.errno in _DISK_FAILURES


def storage_error(path: Path, error: OSError) -> R1SearcherError:
    """What a failed write means to the user: a full disk ends the run, a wrong path was a wrong argument."""
    reason = error.strerror or str(error)
    if is_disk_failure(error):
        return RunAborted(
            f"cannot write {path}: {reason}. Free some space and run the same command again: what is finished is kept."
        )
    return InputError(f"cannot write {path}: {reason}; choose another path")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees either what was there before or all of the new.

    Raises:
        RunAborted: the disk is full; nothing of the new file is left.
        InputError: the path cannot be written.
    """
    draft = path.with_name(path.name + ".partial")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise storage_error(path, error) from error


class JsonLines:
    """An append-only file of JSON objects, one per line.

    Every line reaches the system at once, so a killed process leaves at most its last line incomplete; opening the
    file again ends such a line. A line that does not fit on the disk is taken back as a whole.
    """

    def __init__(self, path: str | Path) -> None:
        """Open for appending; the folder is created. Raises as `write_whole` does."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
            if self._ends_in_half_a_line():
                self._write(b"\n")
        except OSError as error:
            raise storage_error(self.path, error) from error

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line. Raises `RunAborted` where it does not fit; the file is then as it was before."""
        self._write(_encoded(row) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _ends_in_half_a_line(self) -> bool:
        if not self._file.seek(0, os.SEEK_END):
            return False
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) != b"\n"

    def _write(self, line: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        rest = memoryview(line)
        try:
            while rest:  # on a nearly full disk a write is short first, and an error only then
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a device has no length
                self._file.truncate(start)
            raise storage_error(self.path, error) from error


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that `JsonLines` wrote, lines left out that a killed process did not finish."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        yield row


def _encoded(row: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(row)  # a fifth of json's time, and a rollout logs every episode
    except UnicodeEncodeError:  # half of a surrogate pair, which a dataset's JSON may hold
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")
