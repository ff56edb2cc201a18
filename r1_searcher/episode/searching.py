"""One query to a retriever: sent, timed, and what the record keeps and a watcher sees of its outcome."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SearchRecord
from r1_searcher.episode.watching import Searched
from retriever.errors import RetrieverError
from retriever.interface import Retriever
from retriever.passage import Hits, Passage, SearchRequest


@dataclass(frozen=True)
class SearchReply:
    """The outcome of one query."""

    query: str
    hits: Hits = ()
    seconds: float = 0.0
    """Wall time of the retriever call."""
    failure: str = ""
    """Type and message, where the search service has failed."""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Every passage that came back, best first."""
        return tuple(hit.passage for hit in self.hits)

    def record(self, shown: Sequence[Passage], tool: str) -> SearchRecord:
        """What the episode's record keeps of it, `shown` being the passages that were inserted."""
        return SearchRecord(
            query=self.query,
            passage_ids=tuple(passage.id for passage in self.passages),
            shown_ids=tuple(passage.id for passage in shown),
            scores=tuple(round(float(hit.score), 6) for hit in self.hits),
            seconds=round(self.seconds, 6),
            error=self.failure,
            tool=tool,
        )

    def seen(self, shown: Sequence[Passage], tool: str) -> Searched:
        """What a watcher sees of it."""
        return Searched(self.query, tuple(shown), self.seconds, self.failure, tool)


async def ask(retriever: Retriever, query: str, top_k: int, row: QARow, progress: float) -> SearchReply:
    """Ask for `query`'s passages, with the row and the run's progress as context; a failing service is a reply, too."""
    request = SearchRequest(query=query, top_k=top_k, context={"row": row, "progress": progress})
    started = time.perf_counter()
    try:
        hits = tuple(await retriever.search(request))
    except RetrieverError as error:
        return SearchReply(query, (), time.perf_counter() - started, f"{type(error).__name__}: {error}")
    return SearchReply(query, hits, time.perf_counter() - started)
