"""A large input as units of work: each is read alone, in any process, and gives one shard of the store."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from foundation.files import draft, text_number, write_json
from foundation.text_lines import bounded_lines_of, is_one_piece, next_line
from retriever.index.formats import FORMATS, BadLine, Cutting, HeaderLine, read_line
from retriever.index.store import Shard, write_shard
from retriever.passage import Passage

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is a bad line: it bounds the memory of a worker."""
_EXCERPT_CHARS = 120


@dataclass(frozen=True, slots=True)
class Piece:
    """The lines of a file that begin from byte `start` and before byte `stop`; a compressed file is one piece."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Work for one process."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        """Size on disk, as the progress bar counts it."""
        return sum(piece.stop - piece.start for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class UnitTask:
    """A unit, and how to read it into which folders."""

    unit: Unit
    format: str
    cutting: Cutting
    store: Path
    work: Path

    @property
    def done_file(self) -> Path:
        """Written last: the unit is finished."""
        return self.work / f"unit-{self.unit.number:05d}.json"

    @property
    def bad_file(self) -> Path:
        """The lines that gave no passage."""
        return self.work / f"unit-{self.unit.number:05d}.bad.jsonl"

    @property
    def ids_file(self) -> Path:
        """Sorted 64-bit hashes of the passages' ids."""
        return self.work / f"unit-{self.unit.number:05d}.ids.npy"


@dataclass(frozen=True, slots=True)
class UnitDone:
    """The outcome of a finished unit."""

    shard: Shard
    lines: dict[str, int]
    """Lines that were read, by file; blank ones count."""
    bad: int
    """Lines that gave no passage."""
    headers: int = 0
    """Lines of column names."""
    untitled: int = 0
    """Passages without a title."""


def cut_into_units(files: Sequence[Path], unit_bytes: int) -> list[Unit]:
    """Units of about `unit_bytes`: large plain files are cut, small files are gathered, order is kept."""
    units: list[Unit] = []
    pieces: list[Piece] = []
    room = unit_bytes
    for file in files:
        start, size = 0, file.stat().st_size
        while start < size:
            take = size - start if is_one_piece(file) else min(room, size - start)
            pieces.append(Piece(str(file), start, start + take))
            start, room = start + take, room - take
            if room <= 0:
                units.append(Unit(len(units), tuple(pieces)))
                pieces, room = [], unit_bytes
    if pieces:
        units.append(Unit(len(units), tuple(pieces)))
    return units


def do_unit(task: UnitTask) -> UnitDone:
    """Read a unit and write its shard, its bad lines and, last, the file that says it is done."""
    reading = _Reading(task)
    with draft(task.bad_file) as temporary, temporary.open("w", encoding="utf-8") as bad:
        reading.bad_lines = bad
        shard = write_shard(task.store / f"shard-{task.unit.number:05d}.arrow", reading.passages())
    with draft(task.ids_file) as temporary, temporary.open("wb") as file:
        np.save(file, np.sort(np.array(reading.ids, dtype=np.uint64)))
    done = UnitDone(shard, reading.lines, reading.bad, reading.headers, reading.untitled)
    write_json(task.done_file, asdict(done))
    return done


@dataclass
class _Reading:
    """A unit while it is read."""

    task: UnitTask
    bad_lines: IO[str] | None = None
    bad: int = 0
    headers: int = 0
    untitled: int = 0
    lines: dict[str, int] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)

    def passages(self) -> Iterator[Passage]:
        reader, cutting = FORMATS[self.task.format], self.task.cutting
        for piece in self.task.unit.pieces:
            self.lines.setdefault(piece.file, 0)
            for line in lines_of(piece):
                self.lines[piece.file] += 1
                if line is not None and not line.strip():
                    continue
                try:
                    if line is None:
                        raise BadLine(f"longer than {MAX_LINE_BYTES} bytes")
                    found = read_line(line, reader, cutting)
                except HeaderLine:
                    self.headers += 1
                    continue
                except BadLine as error:
                    self._note(piece.file, line or b"", str(error))
                    continue
                self.ids.extend(text_number(passage.id) for passage in found)
                self.untitled += sum(not passage.title for passage in found)
                yield from found

    def _note(self, file: str, line: bytes, reason: str) -> None:
        self.bad += 1
        excerpt = line[:_EXCERPT_CHARS].decode("utf-8", "replace")
        row = {"file": file, "line": self.lines[file], "reason": reason, "begins": excerpt}
        assert self.bad_lines is not None
        self.bad_lines.write(json.dumps(row) + "\n")


def lines_of(piece: Piece) -> Iterator[bytes | None]:
    """The piece's lines; None for one that is too long."""
    path = Path(piece.file)
    if is_one_piece(path):
        yield from bounded_lines_of(path, MAX_LINE_BYTES)
        return
    with path.open("rb") as file:
        if piece.start:
            # The line around the border belongs to the piece where it begins.
            file.seek(piece.start - 1)
            next_line(file, MAX_LINE_BYTES)
        while file.tell() < piece.stop and (line := next_line(file, MAX_LINE_BYTES)) != b"":
            yield None if line is None else line.removeprefix(codecs.BOM_UTF8)
