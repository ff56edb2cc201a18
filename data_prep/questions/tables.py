"""Tables of questions: CSV and TSV, with a line of column names or in the form of DPR's question files.

DPR's `nq-test.qa.csv` has tabs in spite of its name, no names, and a Python list of answers in the second column. A
line is a row, whatever its quotation marks (`foundation.text_table`); only in a file that is CSV to the letter may a
quoted field hold line ends.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.files import parse_json
from foundation.text_lines import lines_of
from foundation.text_table import fields_of, is_quoted, records_of

QUESTION_COLUMNS = frozenset({"question", "query", "input"})
ANSWER_COLUMNS = frozenset({"answer", "answers", "golden_answers"})
_ADJACENT_STRINGS = re.compile(r"""['"]\s+['"]""")
_NAMES = {"\t": "tab-separated", ",": "comma-separated", ";": "semicolon-separated"}


@dataclass(frozen=True)
class BadRow:
    """A row of a question file that could not be read."""

    number: int
    """Its line in a file of lines; else its place among the rows, counted from 1."""
    why: str


RawItem = tuple[int, Mapping[str, Any] | BadRow]
"""The number of a row of a question file, and the row before it is understood."""


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table."""

    delimiter: str
    names: tuple[str, ...]
    """Of the columns; DPR's are `question` and `answers`, whatever follows them is not looked at."""
    has_header: bool
    quoting: bool
    """Whether quotation marks around a field are quoting."""

    @property
    def shape(self) -> str:
        """As it is told to the user."""
        kind = "with a line of names" if self.has_header else "without names, as DPR's question files"
        marks = "" if self.quoting else "; quotation marks are text"
        return f"{_NAMES[self.delimiter]} columns {', '.join(self.names)} ({kind}{marks})"


def read_table(path: Path, suffix: str) -> tuple[str, Iterator[RawItem]]:
    """What the table is, and its rows.

    Raises:
        InputError: no column holds questions, and it is no table of DPR's either.
        OSError: as `foundation.text_lines.lines_of` does.
    """
    lines = [(number, line.rstrip(b"\r\n")) for number, line in lines_of(path)]
    texts = [line.decode("utf-8", "replace") for _, line in lines]
    layout = _layout(path, [text for text in texts if text.strip()], suffix)
    text = "\n".join(texts)
    records = records_of(text, layout.delimiter) if suffix == ".csv" else None
    if records is not None and len(records) < sum(bool(text.strip()) for text in texts):
        layout = replace(layout, quoting=True)
        return f"{layout.shape}, some over several lines", _numbered_records(text, layout)
    return layout.shape, _rows(lines, layout)


def listed(cell: str) -> list[Any] | None:
    """The list that a cell holds in Python's or JSON's writing; None where it holds none.

    Raises:
        ValueError: a list whose strings stand without commas, as NumPy prints one; Python would join them.
    """
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = parse_json(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
        if _ADJACENT_STRINGS.search(text):
            raise ValueError(f"a list of strings needs commas between them, found {text:.80}") from None
    return found if isinstance(found, list) else None


def _layout(path: Path, lines: Sequence[str], suffix: str) -> TableColumns:
    if not lines:
        return TableColumns("\t", ("question",), True, True)
    delimiter = _delimiter(lines[0], suffix)
    quoting = is_quoted(lines, delimiter)
    first = [cell.strip() for cell in fields_of(lines[0], delimiter)]
    lower = [cell.lower() for cell in first]
    if QUESTION_COLUMNS & set(lower):
        names = (
            small if small in QUESTION_COLUMNS | ANSWER_COLUMNS else cell
            for small, cell in zip(lower, first, strict=True)
        )
        return TableColumns(delimiter, tuple(names), True, quoting)
    if len(first) > 1 and _is_list(first[1]):
        # Its writer quotes a list whose strings hold quotation marks, and Python's lists are full of them otherwise.
        return TableColumns(delimiter, ("question", "answers"), False, True)
    raise InputError(
        f"--input {path}: the first line names no column question (found {', '.join(first)!r:.120}), and its second "
        "column is no list of answers as in DPR's files; add a line of column names"
    )


def _delimiter(first: str, suffix: str) -> str:
    """Tabs have any name; spreadsheets write semicolons where the comma is a decimal point."""
    if "\t" in first or suffix != ".csv":
        return "\t"
    parted = {cell.strip().lower() for cell in fields_of(first, ";")}
    return ";" if len(parted) > 1 and QUESTION_COLUMNS & parted else ","


def _is_list(cell: str) -> bool:
    try:
        return listed(cell) is not None
    except ValueError:
        return True


def _rows(lines: Sequence[tuple[int, bytes]], layout: TableColumns) -> Iterator[RawItem]:
    skip_first = layout.has_header
    for number, line in lines:
        if not line.strip():
            continue
        if skip_first:
            skip_first = False
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield number, BadRow(number, f"not UTF-8 ({error.reason} at byte {error.start})")
            continue
        width = len(layout.names) if layout.has_header else None
        yield number, _row(number, fields_of(text, layout.delimiter, columns=width, quoting=layout.quoting), layout)


def _numbered_records(text: str, layout: TableColumns) -> Iterator[RawItem]:
    """The records of CSV to the letter, each with the number of its last line."""
    import csv
    import io

    reader = csv.reader(io.StringIO(text, newline=""), delimiter=layout.delimiter, strict=True)
    records = ((reader.line_num, record) for record in reader if record)
    if layout.has_header:
        next(records)
    yield from ((number, _row(number, record, layout)) for number, record in records)


def _row(number: int, fields: Sequence[str], layout: TableColumns) -> Mapping[str, Any] | BadRow:
    expected = len(layout.names)
    if len(fields) != expected and (layout.has_header or len(fields) < expected):
        return BadRow(number, f"expected {expected} columns, found {len(fields)}")
    try:
        row: dict[str, Any] = {}
        for name, cell in zip(layout.names, fields, strict=False):
            found = listed(cell) if "answer" in name.lower() else None
            row[name] = cell if found is None else found
        if not layout.has_header and not isinstance(row["answers"], list):
            raise ValueError(f"expected a list of answers, found {row['answers']!r:.80}")
    except ValueError as error:
        return BadRow(number, str(error))
    return row
