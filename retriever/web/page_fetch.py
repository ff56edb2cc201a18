"""Fetching one web page: addresses that may be asked, redirects, size, content type."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urldefrag, urljoin, urlsplit

from foundation.http import Transport, display_url
from retriever.client.transport import checked
from retriever.errors import RetrieverBadResponse, RetrieverTimeout, RetrieverUnavailable
from retriever.web.rate_limit import RateLimits

MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_REDIRECTS = 5
MAX_URL_CHARS = 2000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
READABLE = frozenset({"", "text/html", "application/xhtml+xml", "text/plain"})
"""Content types that can be read; an answer that names none is taken for HTML."""


class NoSuchHost(RetrieverUnavailable):
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

    Only http(s) is fetched, and hosts inside a private network (this machine, its neighbours, a cloud's metadata
    service) are refused unless they are allowed. The address of a host is looked up once to be checked and once more
    to connect; who controls a name server could answer differently, so untrusted models belong behind a firewall.
    """

    def __init__(self, transport: Transport, limits: RateLimits, *, allow_private: bool = False) -> None:
        self._transport, self._limits, self._allow_private = transport, limits, allow_private

    async def fetch(self, url: str, limit_s: float) -> RawPage:
        """Get a page, following at most `MAX_REDIRECTS` redirects, within `limit_s` seconds.

        Raises:
            RetrieverRejected: a 4xx.
            RetrieverBadResponse: no address of a page, a private host, too many redirects, too large, nothing to read.
            RetrieverUnavailable, RetrieverTimeout: no answer, or a failing or busy host.
        """
        give_up_at = time.monotonic() + limit_s
        asked = urldefrag(url).url
        for hop in range(MAX_REDIRECTS + 1):
            host = page_host(asked)
            if hop:
                await self._limits.turn(host)
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise RetrieverTimeout(f"no page from {display_url(url)} within {limit_s:.3g} s, redirects included")
            if not self._allow_private:
                await _refuse_private(asked, left)
            reply = await self._transport.send("GET", asked, None, left)
            if reply.status not in _REDIRECTS:
                body = checked(reply, display_url(asked))
                return RawPage(asked, *_content_type(reply.headers.get("content-type", ""), asked), body)
            target = reply.headers.get("location", "")
            if not target:
                raise RetrieverBadResponse(f"{display_url(asked)} answered {reply.status} without saying where to go")
            asked = urldefrag(urljoin(asked, target)).url
        raise RetrieverBadResponse(f"{display_url(url)} redirects more than {MAX_REDIRECTS} times")


def page_host(url: str) -> str:
    """Host and port of a page's address. Raises RetrieverBadResponse where it is none."""
    try:
        parts = urlsplit(url)
        legal = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        legal = False
    if not legal or len(url) > MAX_URL_CHARS or any(c.isspace() or "\ud800" <= c <= "\udfff" for c in url):
        raise RetrieverBadResponse(f"not the address of a web page: {url[:100]!r}; expected http(s)://host/path")
    return parts.netloc.rpartition("@")[2].lower()


async def _refuse_private(url: str, limit_s: float) -> None:
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    try:
        lookup = asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = await asyncio.wait_for(lookup, limit_s)
    except TimeoutError as error:
        raise RetrieverTimeout(f"no address of {host} within {limit_s:.3g} s") from error
    except socket.gaierror as error:
        kind = RetrieverUnavailable if error.errno == socket.EAI_AGAIN else NoSuchHost
        raise kind(f"cannot find the host {host} ({error.strerror})") from error
    except UnicodeError as error:
        raise RetrieverBadResponse(f"not the name of a host: {host[:100]!r}") from error
    addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
    private = sorted(address for address in addresses if not ipaddress.ip_address(address).is_global)
    if private:
        raise RetrieverBadResponse(
            f"{host} is in a private network ({private[0]}); pages are read from public hosts only"
        )


def _content_type(header: str, url: str) -> tuple[str, str]:
    """Type and charset of a content-type header."""
    message = Message()
    message["content-type"] = header
    kind = message.get_content_type() if header else ""
    if kind not in READABLE:
        raise RetrieverBadResponse(f"{display_url(url)} is {kind}, not a page of text")
    return kind, message.get_content_charset("") if header else ""
