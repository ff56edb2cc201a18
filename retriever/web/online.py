"""Search, then read: the online search of R1-Searcher's evaluation."""

from __future__ import annotations

from dataclasses import replace

from retriever.passage import Hits, SearchRequest
from retriever.source import Source
from retriever.wire.bodies import READY, Health

TRIED_PAGES = 3
"""Pages of a search that are tried in turn, as published."""


class SearchAndRead:
    """Searches the web, and answers with what the best readable page says.

    Published: the first three links are tried in turn, the first page that loads is cut to 35,000 characters and
    summarized (`pages:?summary=...`), and a summary that finds nothing is shown as the word None. Here a page without
    anything to show makes room for the next one.
    """

    def __init__(self, search: Source, pages: Source) -> None:
        """Prepare: `search` gives passages whose ids are addresses, `pages` reads one."""
        self._search, self._pages = search, pages

    async def search(self, request: SearchRequest) -> Hits:
        """Parts of one page; empty where none of those found can be read. Raises RetrieverError as the two do."""
        for hit in await self._search.search(replace(request, top_k=TRIED_PAGES)):
            parts = await self._pages.search(replace(request, query=hit.passage.id))
            if parts:
                return parts
        return ()

    async def health(self) -> Health:
        """Whether both are ready. Raises RetrieverError."""
        searched, read = await self._search.health(), await self._pages.health()
        return Health(READY, f"{searched.index}+{read.index}", 0)

    async def close(self) -> None:
        """Close both."""
        await self._search.close()
        await self._pages.close()
