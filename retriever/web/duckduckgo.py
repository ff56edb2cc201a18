"""DuckDuckGo through the `ddgs` library, which reads its result pages."""

from __future__ import annotations

import asyncio
import math
import time
from importlib import import_module
from typing import Any

from retriever.errors import RetrieverTimeout, RetrieverUnavailable
from retriever.passage import Passage
from retriever.web.engines import MAX_TEXT_CHARS, WebQuery
from retriever.web.rate_limit import Rate

_NOTHING = "No results found."
"""What the library says both when there is nothing and when the engine blocks it."""
_CONTROL_QUERY = "encyclopedia"
_CONTROL_HOLDS_S = 60.0


class DuckDuckGo:
    """A `WebService` without a key. The library blocks, so each question takes a thread."""

    name = "ddgs"
    host = "html.duckduckgo.com"
    rate = Rate(1, 2)
    max_results = 25
    max_query_chars = 500

    def __init__(self, *, read_timeout: float = 30.0) -> None:
        """Prepare; `read_timeout` in seconds, of one attempt."""
        self._read_timeout = read_timeout
        self._worked_at = -math.inf

    async def ask(self, query: WebQuery, limit_s: float) -> list[Passage]:
        """One question; see `WebService`.

        An empty answer is believed only while a query that always has results has some, since a block looks the same.
        """
        rows = await self._text(query.text_with_site, query.count, limit_s)
        if not rows and time.monotonic() - self._worked_at > _CONTROL_HOLDS_S:
            await self.check(limit_s)
        found: dict[str, Passage] = {}
        for row in rows:
            url, title, text = (" ".join(str(row.get(key) or "").split()) for key in ("href", "title", "body"))
            if url:
                found.setdefault(url, Passage(url, title, text[:MAX_TEXT_CHARS]))
        return list(found.values())

    async def check(self, limit_s: float) -> None:
        """Ask what always has results; searches there are free."""
        if not await self._text(_CONTROL_QUERY, 1, limit_s):
            raise RetrieverUnavailable(f"{self.host} finds nothing for any question: it blocks this machine for now")

    async def close(self) -> None:
        """Nothing to release."""

    async def _text(self, query: str, count: int, limit_s: float) -> list[dict[str, Any]]:
        ddgs = _ddgs()
        seconds = math.ceil(min(limit_s, self._read_timeout))
        try:
            rows = await asyncio.to_thread(_search, ddgs, query, count, seconds)
        except ddgs.exceptions.TimeoutException as error:
            raise RetrieverTimeout(f"no complete answer from {self.host} within {seconds} s") from error
        except ddgs.exceptions.DDGSException as error:
            if str(error) == _NOTHING:
                return []
            raise RetrieverUnavailable(f"{self.host}: {' '.join(str(error).split())[:300]}") from error
        self._worked_at = time.monotonic()
        return rows


def _search(ddgs: Any, query: str, count: int, seconds: int) -> list[dict[str, Any]]:
    with ddgs.DDGS(timeout=seconds) as client:
        rows: list[dict[str, Any]] = client.text(query, max_results=count, backend="duckduckgo")
    return rows


def _ddgs() -> Any:
    try:
        ddgs = import_module("ddgs")
        import_module("ddgs.exceptions")
    except ImportError as error:
        raise ImportError("DuckDuckGo needs the ddgs library: pip install ddgs") from error
    return ddgs
