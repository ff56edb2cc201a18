"""Search for agents: passages, indexes, a server and a client.

This package exports the light nouns. What needs a library is imported from its module: `retriever.client`
(aiohttp), `retriever.bm25` (bm25s), `retriever.dense` (faiss), `retriever.encoder`, `retriever.server`
(Flask).
"""

from retriever.errors import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
)
from retriever.interface import Index, LocalRetriever, Retriever
from retriever.passage import Hit, Hits, Passage, SearchRequest

__all__ = [
    "Hit",
    "Hits",
    "Index",
    "LocalRetriever",
    "Passage",
    "Retriever",
    "RetrieverBadResponse",
    "RetrieverError",
    "RetrieverRejected",
    "RetrieverTimeout",
    "RetrieverUnavailable",
    "SearchRequest",
]
