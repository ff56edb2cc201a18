"""The search sources of episodes: what they serve, and clients for them."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from foundation.errors import InputError
from r1_searcher.launch import preflight
from retriever.errors import RetrieverError
from retriever.interface import Retriever
from retriever.passage import Hits, SearchRequest
from retriever.sources import open_retriever


class NoRetriever:
    """Stands in where nothing may be searched for (closed book)."""

    async def search(self, request: SearchRequest) -> Hits:
        """Finds nothing; no episode without searches ever asks."""
        return ()

    async def close(self) -> None:
        """Nothing to release."""


@dataclasses.dataclass(frozen=True)
class SearchSources:
    """The sources of the episodes, as `retriever.sources.open_retriever` reads them; None: no source."""

    search: str | None
    browse: str | None = None
    """The source that reads pages, for protocols that browse."""

    def facts(self) -> dict[str, Any] | None:
        """What the search service says that it serves: index, number of passages, and whatever else it tells.

        Raises:
            InputError: one of the services does not answer.
        """
        if self.browse is not None:
            preflight.check_retriever(self.browse)
        if self.search is None:
            return None
        preflight.check_retriever(self.search)
        try:
            facts = asyncio.run(_health(self.search))
        except RetrieverError as error:
            raise InputError(f"the retriever does not say what it serves: {error}") from error
        del facts["status"]
        return facts

    def open(self) -> tuple[Retriever, dict[str, Retriever]]:
        """A client for searches, and those of the protocol's further tools."""
        search: Retriever = NoRetriever() if self.search is None else open_retriever(self.search)
        return search, {} if self.browse is None else {"browse": open_retriever(self.browse)}


async def _health(source: str) -> dict[str, Any]:
    retriever = open_retriever(source)
    try:
        return dataclasses.asdict(await retriever.health())
    finally:
        await retriever.close()
