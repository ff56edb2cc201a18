"""Files that appear whole or not at all, also when the process is killed, the disk runs full, or the power fails.

Also what a file's content is known by: its JSON, its hash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.errors import InputError, R1SearcherError, RunAborted
from foundation.process import started_at

_DRAFT = ".draft"
_DISK_FAILURES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def is_disk_failure(error: OSError) -> bool:
    """Whether the disk is full or broken, rather than the path wrong."""
    return error.errno in _DISK_FAILURES


def as_users_error(error: OSError) -> R1SearcherError | None:
    """An error of a file that is never a bug, as the user's: a full disk, a folder that may not be written."""
    if not isinstance(error.filename, str | bytes):
        return None
    path = Path(os.fsdecode(error.filename))
    if error.errno in _NOT_ALLOWED:
        return InputError(f"{path}: {error.strerror}; choose another path, or change who may use it")
    return storage_error(path, error) if is_disk_failure(error) else None


def storage_error(path: Path, error: OSError) -> R1SearcherError:
    """What a failed write means to the user: a full disk ends the run, a wrong path was a wrong argument."""
    reason = error.strerror or str(error)
    if is_disk_failure(error):
        return RunAborted(
            f"cannot write {path}: {reason}. Free some space and run the same command again: what is finished is kept."
        )
    return InputError(f"cannot write {path}: {reason}; choose another path")


_TRIES = 10


def make_folder(path: Path) -> None:
    """Create a folder and those above it. Raises as `write_whole` does."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        _make(path)
        for folder in missing:
            sync_folder(folder.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def _make(path: Path) -> None:
    """As `Path.mkdir`, which fails where another process makes the folder and removes it before it looks."""
    for _ in range(_TRIES - 1):
        try:
            return path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if path.is_file():
                raise
    return path.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; without it a power cut takes back a file that has appeared."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if is_disk_failure(error):  # else: a file system that cannot (some of FUSE and SMB)
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until all that others wrote below a folder is on the disk. Raises as `write_whole` does."""
    try:
        for parent, _, names in os.walk(folder):
            for name in names:
                if not (file := Path(parent, name)).is_symlink():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())
            sync_folder(Path(parent))
    except OSError as error:
        raise storage_error(folder, error) from error


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an exception.

    A process killed at any moment, or a power cut, leaves either what was there before or a whole new file. What is
    left of the draft is removed by the next process that holds the folder (`foundation.owned_folder.held`).

    Raises:
        RunAborted: the disk is full or broken; nothing of the new file is left.
    """
    # The number of the process, for who cleans up; a number by chance, since threads and other machines write, too.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_DRAFT}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if is_disk_failure(error):
            raise storage_error(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Whether a path has the name of a draft."""
    return path.match(f".*{_DRAFT}")


def drafts_in(folder: Path) -> list[Path]:
    """Drafts that are being written, or that a killed process has left."""
    return sorted(folder.glob(f".*{_DRAFT}"))


def remove_left_drafts(folder: Path) -> None:
    """Remove the drafts whose process is gone. Raises `OSError`."""
    for path in drafts_in(folder):
        number = path.name.removesuffix(_DRAFT).rpartition(".")[2].partition("-")[0]
        if not number.isdecimal() or started_at(int(number)) is None:
            path.unlink(missing_ok=True)


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text file so that a reader sees either what was there before or all of the new.

    Args:
        path: of the file.
        text: all of it.
        private: only this user can read it (mode 0600), from its first byte on.

    Raises:
        RunAborted: the disk is full or broken; nothing of the new file is left.
        InputError: the path cannot be written.
    """
    try:
        with draft(path) as temporary:
            temporary.touch(mode=0o600 if private else 0o666)
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise storage_error(path, error) from error


def write_json(path: Path, value: Mapping[str, Any], *, private: bool = False) -> None:
    """Write a JSON object, indented for people. Arguments and errors are those of `write_whole`."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", private=private)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file. Raises `InputError` where it cannot be read or holds something else."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold a JSON object, found {type(found).__name__}")
    return found


def text_sha256(text: str) -> str:
    """Hexadecimal SHA-256 of a text in UTF-8, whose halves of surrogate pairs are bytes like any others."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def text_number(text: str) -> int:
    """A number of 64 bits by which a text is known, the same in every process; other than Python's own `hash`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file of any size. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text of a file or a service stands for.

    Raises:
        json.JSONDecodeError: no JSON, or nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", "", 0) from error
