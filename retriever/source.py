"""A retriever that can say whether it works: what `retriever.sources` opens."""

from __future__ import annotations

from typing import Protocol

from retriever.interface import Retriever
from retriever.wire.bodies import Health


class Source(Retriever, Protocol):
    """A `Retriever` whose service may be asked how it is, without a search that costs anything."""

    async def health(self) -> Health:
        """What is ready.

        Raises:
            RetrieverError: nothing is: the service is down, or its key is missing.
            ImportError: the library that it needs is; the message says how to install it.
        """
        ...
