"""Fetching one web page: addresses that may be asked, redirects, size, content type."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from urllib.parse import urldefrag, urljoin, urlsplit

from foundation import http
from foundation.http import Transport, display_url
from retriever.client.transport import checked
from retriever.errors import RetrieverBadResponse, RetrieverTimeout, RetrieverUnavailable
from retriever.web.rate_limit import RateLimits

MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_REDIRECTS = 5
MAX_URL_CHARS = 2000
WEB_PORTS = frozenset({80, 443})
_CHARSET = re.compile(r"""[;\s]charset\s*=\s*["']?([A-Za-z0-9._:+-]{1,40})""", re.IGNORECASE)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
READABLE = frozenset({"", "text/html", "application/xhtml+xml", "text/plain"})
"""Content types that can be read; an answer that names none is taken for HTML."""


class NoSuchPageHost(RetrieverUnavailable):
    """The name of a host has no address; another attempt would not find one."""

    transient = False


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page as it came."""

    url: str
    """The address after redirects."""
    content_type: str
    """One of `READABLE`."""
    charset: str
    """As the server named it; empty where it did not."""
    body: bytes


class PageFetcher:
    """Gets pages that a model asks for, so no address is trusted.

    Only http(s) on the web's own ports is fetched, without user names, and each redirect is an address like the
    first. Which hosts may be connected to is the transport's to say: it sees the addresses that the names stand for.
    """

    def __init__(self, transport: Transport, limits: RateLimits, *, any_port: bool = False) -> None:
        """Prepare: `limits` are waited for before each hop, `any_port` lifts the bound to ports 80 and 443."""
        self._transport, self._limits, self._any_port = transport, limits, any_port

    async def fetch(self, url: str, limit_s: float) -> RawPage:
        """Get a page, following at most `MAX_REDIRECTS` redirects, within `limit_s` seconds.

        Raises:
            RetrieverRejected: a 4xx.
            RetrieverBadResponse: no address of a page, a private host, too many redirects, too large, nothing to read.
            RetrieverUnavailable, RetrieverTimeout: no answer, or a failing or busy host.
        """
        give_up_at = time.monotonic() + limit_s
        asked = _target("", url)
        for hop in range(MAX_REDIRECTS + 1):
            host = self.host_of(asked)
            if hop:
                await self._limits.turn(host, max(give_up_at - time.monotonic(), 0))
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise RetrieverTimeout(f"no page from {display_url(url)} within {limit_s:.3g} s, redirects included")
            reply = await self._get(asked, left)
            if reply.status not in _REDIRECTS:
                body = checked(reply, display_url(asked))
                return RawPage(asked, *_content_type(reply.headers.get("content-type", ""), asked), body)
            target = reply.headers.get("location", "")
            if not target:
                raise RetrieverBadResponse(f"{display_url(asked)} answered {reply.status} without saying where to go")
            asked = _target(asked, target)
        raise RetrieverBadResponse(f"{display_url(url)} redirects more than {MAX_REDIRECTS} times")

    def host_of(self, url: str) -> str:
        """Host and port of a page's address. Raises RetrieverBadResponse where it is none."""
        try:
            parts = urlsplit(url)
            port = parts.port
            legal = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and "@" not in parts.netloc
        except ValueError:
            legal = False
        if not legal or len(url) > MAX_URL_CHARS or any(c.isspace() or "\ud800" <= c <= "\udfff" for c in url):
            raise RetrieverBadResponse(f"not the address of a web page: {url[:100]!r}; expected http(s)://host/path")
        if port is not None and port not in WEB_PORTS and not self._any_port:
            raise RetrieverBadResponse(f"{display_url(url)}: pages are read on ports 80 and 443 only, found {port}")
        return parts.netloc.lower()

    async def _get(self, url: str, limit_s: float) -> http.Reply:
        try:
            return await self._transport.send("GET", url, None, limit_s)
        except RetrieverUnavailable as error:
            if isinstance(error.__cause__, http.NoSuchHost):
                raise NoSuchPageHost(str(error)) from error
            raise


def _target(base: str, url: str) -> str:
    """Where a redirect goes, without its fragment. Raises RetrieverBadResponse for what is no address."""
    try:
        return urldefrag(urljoin(base, url)).url
    except ValueError as error:
        raise RetrieverBadResponse(f"not the address of a web page: {url[:100]!r}") from error


def _content_type(header: str, url: str) -> tuple[str, str]:
    """Type and charset of a content-type header."""
    kind = header.partition(";")[0].strip().lower()
    if kind not in READABLE:
        raise RetrieverBadResponse(f"{display_url(url)} is {kind[:100]}, not a page of text")
    charset = _CHARSET.search(header)
    return kind, charset[1].lower() if charset else ""
