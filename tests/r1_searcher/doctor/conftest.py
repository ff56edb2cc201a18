"""A search service for the doctor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.services.fake_web import serve_app
from support.services.search_servers import TOWNS

from retriever.index.bm25 import Bm25Index
from retriever.server.app import create_app


@pytest.fixture(scope="session")
def live_url() -> Iterator[str]:
    """The real service over a real index."""
    with serve_app(create_app(Bm25Index.build(TOWNS))) as url:
        yield url
