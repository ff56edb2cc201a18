"""The formats of published corpora: how a file's format is recognised, and a line of it -> its passages.

`recognised` looks at the first lines; whoever reads a corpus says what it was taken for (`Recognised.shape`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from foundation.files import parse_json
from foundation.text_lines import lines_of
from foundation.text_table import fields_of
from retriever.passage import Passage
from retriever.written import title_and_text


class BadLine(ValueError):
    """A line that gives no passage; the message says why."""


class HeaderLine(BadLine):
    """A line of column names."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """The options of reading."""

    words: int = 100
    """KILT: words of a passage; the last of a page may be shorter."""
    fields: Mapping[str, str] = field(default_factory=lambda: {"id": "id", "title": "title", "text": "text"})
    """JSONL: which field of the line holds the passage's id, title and text."""
    columns: tuple[str, ...] = ("id", "text", "title")
    """DPR: what the columns of a table hold; others than these three are not read."""


LineReader = Callable[[str, Cutting], list[Passage]]

_KILT_HEADING = "Section::::"
_KILT_BULLET = re.compile(r"^BULLET::::[-*#:;\s]*")
_LOOKED_AT = 100
"""Lines that tell a format."""
_COLUMN_OF = {
    **dict.fromkeys(("id", "_id", "docid", "doc_id", "pid"), "id"),
    **dict.fromkeys(("title", "wikipedia_title"), "title"),
    **dict.fromkeys(("text", "passage", "body", "contents", "content"), "text"),
}
"""What corpora call the three parts of a passage; of several, the first one counts."""


def read_line(line: bytes, reader: LineReader, cutting: Cutting) -> list[Passage]:
    """The passages of one line, at least one.

    Raises:
        BadLine: not UTF-8, not of the format, without text, or with half of a surrogate pair.
    """
    try:
        passages = reader(line.decode("utf-8-sig").rstrip("\r\n"), cutting)
        for passage in passages:
            f"{passage.id}{passage.title}{passage.text}".encode()
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise BadLine(f"not valid Unicode ({error.reason})") from error
    except BadLine:
        raise
    except ValueError as error:
        raise BadLine(f"not JSON ({error})") from error
    if not passages:
        raise BadLine("no text")
    return passages


def _kilt(line: str, cutting: Cutting) -> list[Passage]:
    """KILT's knowledge source: `wikipedia_title`, `text` (paragraphs, the first one is the title)."""
    row = _object(line)
    title, paragraphs = _string(row, "wikipedia_title").strip(), row.get("text")
    if not isinstance(paragraphs, list) or not all(isinstance(each, str) for each in paragraphs):
        raise BadLine(f"text must be a list of paragraphs, found {paragraphs!r:.60}")
    if paragraphs and paragraphs[0].strip() == title:
        paragraphs = paragraphs[1:]
    body = [_KILT_BULLET.sub("", each) for each in paragraphs if not each.startswith(_KILT_HEADING)]
    words = " ".join(body).split()
    page = next((str(row[key]) for key in ("wikipedia_id", "_id") if row.get(key)), title)
    cuts = range(0, len(words), cutting.words)
    return [
        Passage(f"{page}-{number}", title, " ".join(words[start : start + cutting.words]))
        for number, start in enumerate(cuts)
    ]


def _hotpotqa_abstracts(line: str, cutting: Cutting) -> list[Passage]:
    """HotpotQA's Wikipedia: `id`, `title`, `text` (sentences, or paragraphs of sentences); one passage a page."""
    row = _object(line)
    text = " ".join("".join(_sentences(row.get("text"))).split())
    return [Passage(_identifier(row, "id"), _string(row, "title"), text)] if text else []


def _wiki18(line: str, cutting: Cutting) -> list[Passage]:
    """Search-R1's wiki-18: `id`, `contents` (the title in quotes, a line end, the text)."""
    row = _object(line)
    title, end, text = _string(row, "contents").partition("\n")
    if not end:
        raise BadLine("contents has no line end between title and text")
    return _one(_identifier(row, "id"), title.strip().removeprefix('"').removesuffix('"'), text)


def _tsv(line: str, cutting: Cutting) -> list[Passage]:
    """R1-Searcher's: an id, a tab, and title and text as `retriever.written.title_and_text` parts them."""
    identifier, tab, written = line.partition("\t")
    if not tab or not identifier:
        raise BadLine("expected an id, a tab and a text")
    if "\t" in written:
        raise BadLine("a text with a tab, or more than two columns; DPR's id, text and title are --format dpr")
    return _one(identifier, *title_and_text(written))


def _dpr(line: str, cutting: Cutting) -> list[Passage]:
    """DPR's psgs_w100.tsv: the columns id, text, title, quoted as CSV where they hold quotation marks."""
    names = cutting.columns
    cells = fields_of(line, "\t", columns=len(names))
    if len(cells) != len(names):
        raise BadLine(f"expected the columns {', '.join(names)}, found {len(cells)}")
    if _columns_of(cells) == names:
        raise HeaderLine("the line of column names")
    row = dict(zip(names, cells, strict=True))
    if not row["id"].strip():
        raise BadLine("no id")
    return _one(row["id"].strip(), row.get("title", "").strip(), row["text"])


def _jsonl(line: str, cutting: Cutting) -> list[Passage]:
    """Any JSON objects with an id, a text and perhaps a title, under the fields that `cutting` names."""
    row, names = _object(line), cutting.fields
    title = _string(row, names["title"]) if names.get("title") in row else ""
    identifier, text = _identifier(row, names["id"]), _string(row, names["text"])
    return [Passage(identifier, title, text)] if text.strip() else []


FORMATS: Mapping[str, LineReader] = MappingProxyType(
    {
        "kilt": _kilt,
        "hotpotqa_abstracts": _hotpotqa_abstracts,
        "wiki18": _wiki18,
        "dpr": _dpr,
        "tsv": _tsv,
        "jsonl": _jsonl,
    }
)
"""Readers by the name that the command line takes."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file was taken for."""

    format: str
    cutting: Cutting
    shape: str
    """As it is told to the user."""


def recognised(path: Path, cutting: Cutting | None = None) -> Recognised | None:
    """The format of a corpus file, by its first lines; None where they are in none.

    Raises:
        OSError: as `foundation.text_lines.lines_of` does.
    """
    lines = (line.decode("utf-8", "replace").rstrip("\r\n") for _, line in lines_of(path) if line.strip())
    seen, cutting = list(itertools.islice(lines, _LOOKED_AT)), cutting or Cutting()
    if not seen:
        return None
    try:
        row = parse_json(seen[0])
    except ValueError:
        return _recognised_table(seen, cutting)
    return _recognised_object(row, cutting) if isinstance(row, dict) else _recognised_table(seen, cutting)


def _recognised_object(row: Mapping[str, Any], cutting: Cutting) -> Recognised | None:
    text = row.get("text")
    if isinstance(text, list):
        name = "kilt" if "wikipedia_title" in row else "hotpotqa_abstracts"
        return Recognised(name, cutting, f"{name}: JSON lines with a list of paragraphs under 'text'")
    if isinstance(row.get("contents"), str) and "text" not in row:
        return Recognised("wiki18", cutting, "wiki18: JSON lines with the title on the first line of 'contents'")
    names = dict(cutting.fields)
    for key in reversed(list(row)):
        part = _COLUMN_OF.get(key)
        if part is not None and names[part] not in row:
            names[part] = key
    if names["id"] not in row or names["text"] not in row:
        return None
    title = f"'{names['title']}'" if names["title"] in row else "none"
    shape = f"jsonl: JSON lines with id '{names['id']}', title {title}, text '{names['text']}'"
    return Recognised("jsonl", replace(cutting, fields=names), shape)


def _recognised_table(lines: Sequence[str], cutting: Cutting) -> Recognised | None:
    first = fields_of(lines[0], "\t")
    columns = _columns_of(first)
    if {"id", "text"} <= set(columns):
        shape = f"dpr: tab-separated columns {', '.join(first)}, named on the first line"
        return Recognised("dpr", replace(cutting, columns=columns), shape)
    widths = {len(fields_of(line, "\t")) for line in lines}
    if widths == {3}:
        columns = _unnamed_columns([fields_of(line, "\t") for line in lines])
        shape = (
            f"dpr: tab-separated columns without names, taken for {', '.join(columns)} (titles are the shorter ones)"
        )
        return Recognised("dpr", replace(cutting, columns=columns), shape)
    if min(widths) == 2:
        titled = sum(bool(title_and_text(line.partition("\t")[2])[0]) for line in lines)
        shape = f"tsv: an id, a tab, a text; {titled} of the first {len(lines)} lines show a title"
        return Recognised("tsv", cutting, shape)
    return None


def _columns_of(cells: Sequence[str]) -> tuple[str, ...]:
    """What the columns hold, by a line of names; an unknown name stays as it is."""
    names = [cell.strip().lower() for cell in cells]
    parts = [_COLUMN_OF.get(name, name) for name in names]
    return tuple(part if parts.index(part) == place else names[place] for place, part in enumerate(parts))


def _unnamed_columns(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    second, third = (sum(len(row[place]) for row in rows) for place in (1, 2))
    return ("id", "text", "title") if second >= third else ("id", "title", "text")


def _one(identifier: str, title: str, text: str) -> list[Passage]:
    return [Passage(identifier, title, text.strip())] if text.strip() else []


def _object(line: str) -> dict[str, Any]:
    row = parse_json(line)
    if not isinstance(row, dict):
        raise BadLine(f"expected a JSON object, found {type(row).__name__}")
    return row


def _string(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise BadLine(f"field {key} must be a string, found {value!r:.60}" if key in row else f"field {key} is missing")
    return value


def _identifier(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(row, key)


def _sentences(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _sentences(each)
    else:
        raise BadLine(f"text must be sentences, found {value!r:.60}")
