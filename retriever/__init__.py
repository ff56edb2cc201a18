"""Search for agents: passages, indexes, a server and a client.

This package exports the light nouns. What needs a library is imported from its room: `retriever.client` (aiohttp),
`retriever.index` (bm25s, faiss, encoders), `retriever.server` (Flask).
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
