"""JSON lines: one object per line, written whole or appended, and read in three ways.

`read_strict` is strict: it names file and line of what it cannot read. `read_finished` is forgiving: it leaves out what
a killed process has left broken. `Tail` reads what has been appended since the last look.

A line ends at a line feed and nowhere else: the other characters that Unicode calls line breaks (U+0085, U+2028,
U+2029) may stand unescaped inside of a string. What others wrote may be compressed, begin with a byte-order mark, or be
UTF-16 (`foundation.text_lines`); what is written here is plain UTF-8.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from foundation.errors import InputError
from foundation.files import parse_json, storage_error, sync_folder, write_whole
from foundation.text_lines import lines_of

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")


class JsonLines:
    """An append-only file of JSON objects, one per line.

    Every line reaches the system at once, so a killed process leaves at most its last line incomplete; opening the
    file again ends such a line. A line that does not fit on the disk is taken back as a whole. A power cut may take the
    lines of the last seconds, unless `sync` was called.
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
        self._write(encoded(row) + b"\n")

    def sync(self) -> None:
        """Wait until all lines are on the disk, where a power cut leaves them. Raises as `append` does."""
        try:
            os.fsync(self._file.fileno())
            sync_folder(self.path.parent)
        except OSError as error:
            raise storage_error(self.path, error) from error

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


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines whole. Raises as `foundation.files.write_whole` does."""
    write_whole(path, "".join(line_of(row) for row in rows))


def line_of(row: Mapping[str, Any]) -> str:
    """A row as one line of text, its line feed included."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, counted from 1, and UTF-8 bytes of every line that is not blank. Raises as `lines_of` does."""
    return ((number, line) for number, line in lines_of(path) if line.strip())


def read_strict(
    path: Path,
    parse: Callable[[Mapping[str, Any]], _Item],
    *,
    growing: bool = False,
    error: Callable[[str], Exception] = InputError,
) -> Iterator[_Item]:
    """Every line's object through `parse`; blank lines are left out.

    Args:
        parse: raises `ValueError`, `KeyError`, `TypeError` or `OverflowError` for an object that it cannot read.
        growing: whether the file may still be written; an unfinished last line is then left out.
        error: of the exception that names file and line.

    Raises:
        InputError: (or `error`) the file is missing, or it or a line cannot be read.
    """
    if not path.is_file():
        raise error(f"file not found: {path} (expected JSON lines)")
    for number, line in _lines_or(path, error):
        try:
            yield parse(object_of(line))
        except KeyError as missing:
            raise error(f"{path}, line {number}: key {missing} is missing") from missing
        except (TypeError, ValueError, OverflowError) as wrong:
            if growing and not line.endswith(b"\n") and _breaks_off(wrong):
                logger.warning("%s: line %d, the last one, is unfinished and left out", path, number)
                return
            raise error(f"{path}, line {number}: {_reason(wrong)}") from wrong


def _breaks_off(error: Exception) -> bool:
    """Whether a line may only be unfinished: its JSON is broken, or a character of several bytes is."""
    return isinstance(error, json.JSONDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


def _lines_or(path: Path, error: Callable[[str], Exception]) -> Iterator[tuple[int, bytes]]:
    try:
        yield from numbered_lines(path)
    except OSError as wrong:
        raise error(f"cannot read {path} ({wrong.strerror or wrong})") from wrong


def read_finished(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a log, those left out that a killed process did not finish. Raises `OSError`."""
    return Tail(path).new_rows()


class Tail:
    """Reads a log while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_rows(self) -> Iterator[dict[str, Any]]:
        """The rows that were finished since the last call; broken lines are left out. Raises `OSError`."""
        with self._path.open("rb") as lines:
            lines.seek(self._offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                try:
                    row = parse_json(line)
                except ValueError:
                    continue
                yield row


def object_of(line: bytes) -> dict[str, Any]:
    """The JSON object of a line of UTF-8. Raises `ValueError`."""
    try:
        found = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    if not isinstance(found, dict):
        raise ValueError(f"a line must be a JSON object, found {type(found).__name__}")
    return found


def encoded(row: Mapping[str, Any]) -> bytes:
    """A row as JSON, without a line feed."""
    try:
        return msgspec.json.encode(row)  # a fifth of json's time, and a rollout logs every episode
    except UnicodeEncodeError:  # half of a surrogate pair, which a dataset's JSON may hold
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno}); expected one object per line"
    return str(error)
