"""Raw rows of a question set: from the hub, from a folder in the hub's layout, or from a file.

A file's type is known by its ending and its first bytes: JSON lines, a JSON list, a table, parquet; plain or
compressed, in UTF-8 or UTF-16. `RawFile.shape` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_prep.questions.tables import BadRow, RawItem, read_table
from foundation.errors import InputError
from foundation.files import parse_json
from foundation.json_lines import numbered_lines
from foundation.text_lines import COMPRESSED, check_is_here, lines_of, text_suffix

UNREAD = ("context", "ctxs", "entity_pages", "search_results", "positive_ctxs", "negative_ctxs", "hard_negative_ctxs")
"""Columns of pages: nine tenths of a row, and nothing here reads them."""


@dataclass(frozen=True)
class HubPlace:
    """The arguments of `datasets.load_dataset`."""

    path: str
    """A name on the hub, or a local folder in the same layout."""
    config: str | None
    split: str
    revision: str | None = None
    """Commit or branch of the hub's copy; None: the newest."""


def from_hub(place: HubPlace) -> Iterator[RawItem]:
    """The rows of one split.

    Raises:
        InputError: the hub does not answer, or has no such set, config or split.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    shown = "/".join(filter(None, (place.path, place.config, place.split)))
    try:
        rows = datasets.load_dataset(place.path, place.config, split=place.split, revision=place.revision)
    except (OSError, ValueError, RuntimeError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot load {shown} ({type(error).__name__}: {reason}); check the names and the network, or give the "
            "file with --input"
        ) from error
    unread = [column for column in UNREAD if column in rows.column_names]
    return ((number, row) for number, row in enumerate(rows.remove_columns(unread), start=1))


@dataclass(frozen=True)
class RawFile:
    """A file of questions."""

    shape: str
    """What it was taken for, as it is told to the user."""
    rows: Iterable[RawItem]


def from_file(path: Path) -> RawFile:
    """A local file, by its ending and beginning.

    Raises:
        InputError: there is no such file, or it is of no known kind; also while its rows are read.
    """
    if not path.is_file():
        raise InputError(
            f"--input {path}: no such file (expected {', '.join(FORMATS)}, or a folder in the hub's layout)"
        )
    suffix = text_suffix(path)
    if suffix not in FORMATS:
        compressed = ", ".join(COMPRESSED)
        raise InputError(
            f"--input {path}: unknown ending {suffix!r}; expected {', '.join(FORMATS)}, each plain or with {compressed}"
        )
    try:
        check_is_here(path)
        shape, rows = FORMATS[suffix](path, suffix)
    except (OSError, ValueError) as error:
        raise _unreadable(path, suffix, error) from error
    return RawFile(shape, _reading(path, suffix, rows))


def _reading(path: Path, suffix: str, rows: Iterable[RawItem]) -> Iterator[RawItem]:
    try:
        yield from rows
    except (OSError, ValueError) as error:
        raise _unreadable(path, suffix, error) from error


def _unreadable(path: Path, suffix: str, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"--input {path}: cannot be read as {suffix} ({reason})")


def _json(path: Path, suffix: str) -> tuple[str, Iterable[RawItem]]:
    """JSON lines, or one JSON value that holds a list of rows: the endings `.json` and `.jsonl` are used for both."""
    lines = numbered_lines(path)
    first = next((line for _, line in lines), b"").strip()
    whole = first.startswith(b"[") or (suffix == ".json" and not _is_object(first))
    if suffix == ".json" and _is_object(first) and next(lines, None) is None:
        whole = any(key in parse_json(first) for key in ("Data", "data"))
    if not whole:
        return "JSON lines", _json_lines(path)
    return "a JSON list", _json_list(path)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def _json_lines(path: Path) -> Iterator[RawItem]:
    for number, line in numbered_lines(path):
        try:
            yield number, _mapping(number, parse_json(line.decode("utf-8")))
        except ValueError as error:
            yield number, BadRow(number, f"not JSON ({error})")


def _json_list(path: Path) -> Iterator[RawItem]:
    """A list, or an object with the list under `Data` (TriviaQA) or `data`; the whole file is in memory."""
    found = parse_json(b"".join(line for _, line in lines_of(path)).decode("utf-8"))
    if isinstance(found, dict):
        found = found.get("Data", found.get("data"))
    if not isinstance(found, list):
        raise InputError(f"--input {path}: expected a JSON list of rows, or an object with one under 'Data'")
    return ((number, _mapping(number, row)) for number, row in enumerate(found, start=1))


def _parquet(path: Path, suffix: str) -> tuple[str, Iterable[RawItem]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("parquet files need the pyarrow library: pip install pyarrow") from error
    file = pq.ParquetFile(path)
    names = [name for name in file.schema_arrow.names if name not in UNREAD]

    def rows() -> Iterator[RawItem]:
        try:
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=1024, columns=names))
            yield from enumerate((row for batch in batches for row in batch), start=1)
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error

    return f"parquet with the columns {', '.join(names)}", rows()


def _mapping(number: int, row: object) -> Mapping[str, Any] | BadRow:
    return row if isinstance(row, dict) else BadRow(number, f"expected a JSON object, found {type(row).__name__}")


Reader = Callable[[Path, str], tuple[str, Iterable[RawItem]]]

FORMATS: Mapping[str, Reader] = MappingProxyType(
    {".jsonl": _json, ".json": _json, ".csv": read_table, ".tsv": read_table, ".parquet": _parquet}
)
"""Readers by a file's ending; of `.jsonl.gz` that is `.jsonl`."""
