"""The answers given last: one LRU table of hits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from retriever.passage import Hits


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What an answer depends on. Answers of another index, or for another `top_k`, are other answers."""

    index: str
    """Identity of the index, see `retriever.server.search_service.identity_of`."""
    query: str
    top_k: int


class ResultCache:
    """At most `size` answers, the least recently used one dropped first. Its user locks."""

    def __init__(self, size: int) -> None:
        """An empty table; a size of 0 keeps nothing. Raises ValueError below 0."""
        if size < 0:
            raise ValueError(f"a cache holds 0 answers or more, got a size of {size}")
        self._size = size
        self._rows: OrderedDict[CacheKey, Hits] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: CacheKey) -> Hits | None:
        """The answer, which now counts as just used; None where there is none."""
        hits = self._rows.get(key)
        if hits is not None:
            self._rows.move_to_end(key)
        return hits

    def put(self, key: CacheKey, hits: Hits) -> None:
        """Keep an answer."""
        self._rows[key] = hits
        self._rows.move_to_end(key)
        if len(self._rows) > self._size:
            self._rows.popitem(last=False)
