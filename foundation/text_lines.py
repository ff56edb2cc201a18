"""The lines of a text file as people keep them: plain or compressed, UTF-8 with or without a mark, UTF-16, UTF-32.

A file's type is known by its first bytes, not its name. Every line comes as UTF-8 bytes; whether those are valid is
for the reader of the line to say, who knows its number. A line ends at a line feed and nowhere else.
"""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""What opens a compressed file, by its usual ending."""
_MAGIC: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZSTD = b"\x28\xb5\x2f\xfd"
_LFS_POINTER = b"version https://git-lfs."
_MARK = codecs.BOM_UTF8
# UTF-32's little-endian mark begins with UTF-16's.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK_BYTES = 1 << 16
_ANY_LENGTH = sys.maxsize - 1


def text_suffix(path: Path) -> str:
    """The ending that tells what is in the file: `.jsonl` of `train.jsonl.gz`, in lower case."""
    return _unpacked(path).suffix.lower()


def text_stem(path: Path) -> str:
    """The name without its endings: `train` of `train.jsonl.gz`; bytes in it that are no text are replaced."""
    return os.fsencode(_unpacked(path).stem).decode("utf-8", "replace")


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, counted from 1, and UTF-8 bytes of every line, its line feed included, without byte-order marks.

    Raises:
        OSError: the file cannot be opened, is damaged, or is of a kind that is not read here.
    """
    for number, line in enumerate(bounded_lines_of(path, _ANY_LENGTH), start=1):
        assert line is not None
        yield number, line


def bounded_lines_of(path: Path, longest: int) -> Iterator[bytes | None]:
    """The lines of `lines_of`; None for one of more than `longest` bytes without its line feed.

    No more than that is held of a line, but of UTF-16 and UTF-32. Raises as `lines_of` does.
    """
    try:
        with _opened(path) as file:
            for line in _utf8(file, longest):
                # Files that were joined have a mark in the middle, too.
                yield None if line is None else line.removeprefix(_MARK)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _unreadable(path, f"damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(path, f"damaged: {error}") from error  # gzip's and bz2's own, without a file
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"not {error.encoding} ({error.reason} at byte {error.start})") from error


def check_is_here(path: Path) -> None:
    """Refuse what a clone without Git LFS has in place of a large file. Raises `OSError`, as opening it does."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise _unreadable(path, "a pointer of Git LFS and not the file itself; fetch it with git lfs pull")


def is_one_piece(path: Path) -> bool:
    """Whether the file must be read from its start: compressed, or of wide characters, whose line feeds are no byte.

    As always here, by its first bytes, not its name.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        first = file.read(8)
    packed = first.startswith((*_MAGIC, _ZSTD))
    return packed or first.startswith(tuple(mark for mark, _ in _WIDE_MARKS)) or _unmarked(first[:4]) is not None


def next_line(file: IO[bytes], longest: int, begun: bytes = b"") -> bytes | None:
    """The next line, of which `begun` was read already; None for one of more than `longest` bytes, b"" at the end."""
    line = begun + file.readline(longest + 1 - len(begun))
    if len(line) <= longest or line.endswith(b"\n"):
        return line
    while (rest := file.readline(_CHUNK_BYTES)) and not rest.endswith(b"\n"):
        pass
    return None


def _unpacked(path: Path) -> Path:
    return Path(path.stem) if path.suffix in COMPRESSED else path


def _opened(path: Path) -> IO[bytes]:
    check_is_here(path)
    with path.open("rb") as file:
        first = file.read(8)
    if first.startswith(_ZSTD):
        raise _unreadable(path, "compressed by zstd; unpack it first (zstd -d)")
    opener = next((opener for magic, opener in _MAGIC.items() if first.startswith(magic)), None)
    found: IO[bytes] = path.open("rb") if opener is None else opener(path, "rb")
    return found


def _utf8(file: IO[bytes], longest: int) -> Iterator[bytes | None]:
    first = file.read(4)
    wide = next((encoding for mark, encoding in _WIDE_MARKS if first.startswith(mark)), None) or _unmarked(first)
    if wide is None:
        yield from _joined(first, file, longest)
        return
    decoder, half = codecs.getincrementaldecoder(wide)(), ""
    chunk = first
    while chunk:
        *lines, half = (half + decoder.decode(chunk)).split("\n")
        yield from (_within(line + "\n", longest) for line in lines)
        chunk = file.read(_CHUNK_BYTES)
    half += decoder.decode(b"", final=True)
    if half:
        yield _within(half, longest)


def _within(line: str, longest: int) -> bytes | None:
    found = line.encode("utf-8", "surrogatepass")
    return found if len(found.removesuffix(b"\n")) <= longest else None


def _unmarked(first: bytes) -> str | None:
    """UTF-16 without a mark, told by the zero beside each of two ASCII characters."""
    if len(first) < 4:
        return None
    zeros = bytes(byte == 0 for byte in first)
    return {b"\0\1\0\1": "utf-16-le", b"\1\0\1\0": "utf-16-be"}.get(zeros)


def _joined(first: bytes, file: IO[bytes], longest: int) -> Iterator[bytes | None]:
    """The lines of what was read already and of the rest."""
    *lines, begun = first.split(b"\n")
    for line in lines:
        yield line + b"\n"
    while (found := next_line(file, longest, begun)) != b"":
        yield found
        begun = b""


def _unreadable(path: Path, reason: str) -> OSError:
    return OSError(errno.EINVAL, reason, str(path))
