"""Corpora on disk, read into memory: JSONL with `id`, `title` and `text`, or any format of `retriever.index.formats`.

Reading is strict: a line that gives no passage is an error with its number. `data_prep.corpus` lists such lines
instead, and takes corpora that do not fit into memory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from foundation.json_lines import numbered_lines
from retriever.index.formats import FORMATS, BadLine, Cutting, HeaderLine, Recognised, read_line, recognised
from retriever.passage import Passage

logger = logging.getLogger(__name__)

_LOOKED_AT = 1000
"""Passages that tell whether a corpus has titles."""
_UNKNOWN = Recognised("jsonl", Cutting(), "jsonl, since its first lines are in no known format")
_NAMES = frozenset({"id", "_id", "docid", "doc_id", "pid", "title", "text", "contents", "passage"})


class CorpusError(ValueError):
    """A corpus file that cannot be read; the message names file and line."""


def iter_corpus(path: str | Path) -> Iterator[Passage]:
    """Stream the passages of a file in order, one line in memory at a time; blank lines are skipped.

    Raises:
        CorpusError: the file cannot be opened, or a line gives no passage.
    """
    path = Path(path)
    try:
        found = recognised(path) or _UNKNOWN
        if found.format != "jsonl" or found.cutting != Cutting():
            logger.info("%s is read as %s", path, found.shape)
        for number, line in numbered_lines(path):
            try:
                yield from read_line(line, FORMATS[found.format], found.cutting)
            except HeaderLine:
                continue
            except BadLine as error:
                raise CorpusError(
                    f"{path}, line {number}: {error} (read as {found.shape}); python -m data_prep.corpus --format "
                    f"{found.format} reads the rest and lists such lines"
                ) from error
    except OSError as error:
        raise CorpusError(f"cannot read corpus {path}: {error.strerror or error}") from error


def doubts(passages: Sequence[Passage]) -> list[str]:
    """What may be wrong with a corpus that could be read: no passage has a title, or the first is a line of names."""
    found = []
    looked_at = list(itertools.islice(passages, _LOOKED_AT))
    if looked_at and not any(passage.title.strip() for passage in looked_at):
        found.append(
            f"none of the first {len(looked_at)} passages has a title: is the corpus in the format that it was read "
            "as? (--no-corpus-warnings turns this off)"
        )
    first = looked_at[0] if looked_at else None
    if first is not None and {first.id.strip().lower(), first.text.strip().lower()} & _NAMES:
        found.append(
            f"the first passage looks like a line of column names (id {first.id!r}, text {first.text!r:.40}) "
            "(--no-corpus-warnings turns this off)"
        )
    return found


def read_corpus(path: str | Path) -> list[Passage]:
    """Read a whole corpus into memory; position i is line i (blank lines not counted).

    Raises:
        CorpusError: as `iter_corpus`; also for an id that occurs twice and for a corpus without passages.
    """
    passages: list[Passage] = []
    seen: dict[str, int] = {}
    for position, passage in enumerate(iter_corpus(path)):
        first = seen.setdefault(passage.id, position)
        if first != position:
            raise CorpusError(
                f"corpus {path}: id {passage.id!r} occurs twice, as passage {first + 1} "
                f"and passage {position + 1}; ids must be unique"
            )
        passages.append(passage)
    if not passages:
        raise CorpusError(f"corpus {path} is empty: expected one JSON object with id, title and text per line")
    return passages


def write_corpus(path: str | Path, passages: Iterable[Passage]) -> None:
    """Write passages as JSONL, readable by `read_corpus`."""
    with Path(path).open("w", encoding="utf-8") as out:
        for passage in passages:
            row = {"id": passage.id, "title": passage.title, "text": passage.text}
            out.write(json.dumps(row) + "\n")


def corpus_hash(passages: Iterable[Passage]) -> str:
    """SHA-256 (hex) over ids, titles and texts in order: two corpora agree exactly when their hashes do."""
    digest = hashlib.sha256()
    for passage in passages:
        digest.update(json.dumps([passage.id, passage.title, passage.text]).encode())
    return digest.hexdigest()
