"""Drawing questions so that the same seed gives the same ones, in whatever order they come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from r1_searcher.episode.question import QARow


def shuffled(rows: Iterable[QARow], seed: int) -> list[QARow]:
    """The rows in an order that follows from the seed and their sources and ids alone; the first n are a sample."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row.source}:{row.id}".encode()).digest())


def lines_of(rows: Iterable[QARow]) -> str:
    """The text of a JSONL file of questions."""
    return "".join(row.to_json() + "\n" for row in rows)
