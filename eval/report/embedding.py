"""Data inside the page: compressed JSON in base64, which no text in it can break out of.

The list of all episodes is one blob; the episodes themselves stand in chunks that the page unpacks one by one, those
that are looked at first.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_searcher.episode.question import QARow

CHUNK_CHARACTERS = 400_000
"""JSON of a chunk before compression: unpacked and parsed in some milliseconds."""


def embed(content: Any) -> str:
    """Any JSON content as base64 of gzip."""
    return _pack(_json(content))


@dataclass
class Archive:
    """Collects episodes: their list entries in columns, the whole of them in chunks."""

    chunks: list[str] = field(default_factory=list)
    """Embedded lists of episodes, in the order in which they were added."""
    _columns: dict[str, list[Any]] = field(default_factory=dict)
    _rows: dict[QARow, int] = field(default_factory=dict)
    """Questions by their place; the samples of one question share it."""
    _open: list[str] = field(default_factory=list)

    def add(self, row: QARow, entry: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        """Add an episode; every entry has the same keys."""
        place = {"row": self._rows.setdefault(row, len(self._rows)), "chunk": len(self.chunks)}
        for name, value in {**entry, **place}.items():
            self._columns.setdefault(name, []).append(value)
        self._open.append(_json(whole))
        if sum(map(len, self._open)) >= CHUNK_CHARACTERS:
            self._close_chunk()

    def finish(self) -> str:
        """Close the last chunk and give the list of all episodes, embedded."""
        if self._open:
            self._close_chunk()
        rows = [{**vars(row), "answers": list(row.answers)} for row in self._rows]
        return embed({"rows": rows, "episodes": self._columns})

    def _close_chunk(self) -> None:
        self.chunks.append(_pack(f"[{','.join(self._open)}]"))
        self._open.clear()


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _pack(text: str) -> str:
    # Halves of surrogate pairs are legal in JSON and not in UTF-8; backslashreplace writes them as JSON escapes.
    compressed = gzip.compress(text.encode("utf-8", "backslashreplace"), compresslevel=6, mtime=0)
    return base64.b64encode(compressed).decode("ascii")
