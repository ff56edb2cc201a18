"""One HTTP exchange: over aiohttp for clients, plainly for a probe. What its status means, and when to come back.

`Transport` is the seam of all clients: one method, one exchange, no retries. Tests replace it with a scripted one.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from foundation.errors import BadResponse, OutsideFailure, Rejected, TimedOut, Unavailable
from foundation.files import parse_json
from foundation.loops import PerLoop
from foundation.proxies import proxy_for
from foundation.secrets import without_secrets

_CHUNK_BYTES = 1 << 16
_LATER = frozenset({408, 409, 425, 429})
"""The 4xx that say "later" instead of "wrong"."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_LONGEST_WAIT_S = 3600.0
"""A service that asks for more is asked again after an hour: a wrong header must not shut it out for good."""

AddressGuard = Callable[[str], str]
"""Why an IP address may not be connected to, as words that follow "is"; empty where it may."""


class NoSuchHost(Unavailable):
    """The name of a host has no address; a name server that cannot be asked is plainly `Unavailable`."""


class AddressRefused(BadResponse):
    """The client's `AddressGuard` refuses the address that it would connect to."""


@cache
def trusted_certificates() -> ssl.SSLContext:
    """What a transport of `httpx2` trusts by default. Each would read all certificates of the machine anew."""
    from httpx2 import create_ssl_context

    context: ssl.SSLContext = create_ssl_context()
    return context


def display_url(url: str) -> str:
    """The URL as it may appear in logs and errors: without user name, password and query string."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as half a pair of brackets; secrets stand before an "@" or after a "?"
        return "(not an address)" if "@" in url or "?" in url else url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_base_url(url: str) -> bool:
    """Whether paths can be added to this http(s) address: it names a host and has no query string."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of every exchange of one client."""

    connect_timeout: float = 5.0
    """Seconds to open a connection."""
    read_timeout: float = 60.0
    """Seconds from the request to the last byte of the answer."""
    max_connections: int = 256
    """Open at once, per event loop."""
    max_response_bytes: int = 32 * 1024 * 1024
    """Larger answers are broken off, counted after decompression."""

    def __post_init__(self) -> None:
        """Raise ValueError for a limit that no exchange could keep."""
        if min(self.connect_timeout, self.read_timeout, self.max_connections, self.max_response_bytes) <= 0:
            raise ValueError(f"the limits of an HTTP client must be above 0, found {self}")


class Transport(Protocol):
    """Carries one request to the service and its answer back."""

    async def send(self, method: str, url: str, body: bytes | None, limit_s: float) -> Reply:
        """Exchange one request within `limit_s` seconds; any HTTP status is a `Reply`.

        Raises:
            Unavailable: refused, not found, or broken off.
            TimedOut: not connected or not answered in time.
            BadResponse: larger than allowed, or not HTTP.
        """
        ...

    async def close(self) -> None:
        """Release the running event loop's connections."""
        ...


class AiohttpTransport:
    """Keep-alive connections through one aiohttp session per event loop, opened when first needed.

    Cookies are neither kept nor sent, and no `.netrc` of the environment is looked at.
    """

    def __init__(
        self,
        limits: HttpLimits,
        headers: Mapping[str, str] | None = None,
        *,
        guard: AddressGuard | None = None,
        proxies: bool = False,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            limits: of every exchange.
            headers: sent with every request: tokens and the like.
            guard: asked about the very address of each connection, whichever way it was written or found. Where a
                proxy connects, it is asked about the addresses that are known here.
            proxies: whether the environment's proxies are used, see `foundation.proxies`; services of one's own are
                reached directly.

        Raises:
            InputError: the environment names a proxy that cannot be used.
        """
        self._limits, self._headers, self._guard, self._uses_proxies = limits, dict(headers or {}), guard, proxies
        for scheme in ("http", "https") if proxies else ():
            proxy_for(f"{scheme}://anywhere.example")
        self._sessions: PerLoop[Any] = PerLoop(lambda: self._open(self._guard))
        self._proxied: PerLoop[Any] = PerLoop(lambda: self._open(None))  # the proxy itself may well be near

    async def send(self, method: str, url: str, body: bytes | None, limit_s: float) -> Reply:
        """Exchange one request; see `Transport`. Redirects are not followed: a POST would lose its body."""
        aiohttp = _aiohttp()
        shown, limits = display_url(url), self._limits
        total = min(limit_s, limits.connect_timeout + limits.read_timeout)
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=limits.connect_timeout, sock_read=limits.read_timeout)
        content_type = {} if body is None else {"Content-Type": "application/json"}
        proxy = await self._proxy_for(url)
        session = (self._proxied if proxy else self._sessions).get()
        try:
            async with session.request(
                method, url, data=body, headers=content_type, timeout=timeout, allow_redirects=False, proxy=proxy
            ) as response:
                content = await self._read(response, shown)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, content, headers)
        # "from None": the library's errors hold the whole address, keys included, and a traceback would show them.
        except aiohttp.ConnectionTimeoutError:
            raise TimedOut(f"no connection to {shown} within {limits.connect_timeout:g} s") from None
        except TimeoutError:
            raise TimedOut(f"no complete answer from {shown} within {total:g} s") from None
        except aiohttp.ClientHttpProxyError as error:
            raise Unavailable(f"{shown}: the proxy {display_url(str(proxy))} answers {error.status}") from None
        except aiohttp.ClientProxyConnectionError as error:
            raise Unavailable(f"{shown}: no proxy at {display_url(str(proxy))} ({describe(error)})") from None
        except aiohttp.ClientResponseError as error:
            raise BadResponse(f"{shown} did not answer in HTTP: {printable(error.message)}") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _Refused):
                raise AddressRefused(str(error.os_error)) from None
            kind = NoSuchHost if _names_nobody(error.os_error) else Unavailable
            raise kind(f"cannot connect to {shown} ({describe(error)}); is the server up?") from None
        except ValueError as error:
            # Out of the URL, or of what the other side sent. The library's words may quote the whole URL, key and all.
            raise BadResponse(f"{shown}: not an address or an answer of HTTP ({type(error).__name__})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{shown} closed the connection ({describe(error)})") from None

    async def close(self) -> None:
        """Close the running loop's sessions; the next request would open a new one."""
        for sessions in (self._sessions, self._proxied):
            session = sessions.pop()
            if session is not None:
                await session.close()

    async def _proxy_for(self, url: str) -> str | None:
        """The proxy, after the guard was asked about the addresses of the host that are known here."""
        if not self._uses_proxies:
            return None
        try:
            proxy, host = proxy_for(url), urlsplit(url).hostname or ""
        except ValueError as error:
            raise BadResponse(f"{display_url(url)}: not an address of HTTP ({type(error).__name__})") from None
        if proxy and self._guard:
            await self._refuse_known(host, self._guard)
        return proxy

    async def _refuse_known(self, host: str, guard: AddressGuard) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return  # behind a proxy the names of the web may be unknown
        for address in {str(entry[4][0]) for entry in found}:
            if why := guard(address):
                raise AddressRefused(str(_Refused(host, address, why)))

    async def _read(self, response: Any, shown: str) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            content += chunk
            if len(content) > self._limits.max_response_bytes:
                # Otherwise the rest would be read before the connection is used again.
                response.close()
                raise BadResponse(
                    f"{shown} answered more than {self._limits.max_response_bytes} bytes; "
                    "ask for less or raise max_response_bytes"
                )
        return bytes(content)

    def _open(self, guard: AddressGuard | None) -> Any:
        aiohttp = _aiohttp()
        places = {"limit": self._limits.max_connections, "limit_per_host": 0}
        if guard is None:
            connector = aiohttp.TCPConnector(**places)
        else:
            # The resolver sees names, and refuses a host with any refused address; the sockets see literals as well.
            connector = aiohttp.TCPConnector(
                resolver=_guarded_resolver(guard),
                socket_factory=_guarded_sockets(guard),
                use_dns_cache=False,
                **places,
            )
        return aiohttp.ClientSession(connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar())


class _Refused(OSError):
    """What the HTTP library takes for a failure to connect."""

    def __init__(self, host: str, address: str, why: str) -> None:
        named = host if host == address else f"{host} ({address})"
        super().__init__(errno.EACCES, f"{named} is {why}")

    def __str__(self) -> str:
        return str(self.strerror)


def _guarded_resolver(guard: AddressGuard) -> Any:
    aiohttp = _aiohttp()

    class GuardedResolver(aiohttp.ThreadedResolver):  # type: ignore[name-defined]
        """The system's resolver; the addresses that it gives are the ones that are connected to."""

        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> Any:
            found = await super().resolve(host, port, family)
            for entry in found:
                if why := guard(entry["host"]):
                    raise _Refused(host, entry["host"], why)
            return found

    return GuardedResolver()


def _guarded_sockets(guard: AddressGuard) -> Callable[[Any], socket.socket]:
    def open_socket(address: Any) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if why := guard(host):
            raise _Refused(host, host, why)
        return socket.socket(family, kind, protocol)

    return open_socket


def _names_nobody(error: OSError) -> bool:
    return isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN


def checked(reply: Reply, url: str) -> bytes:
    """The body of a 200 answer; every other status raises its failure, with `url` as it may be shown.

    Raises:
        Unavailable: 5xx, or a 4xx that says "later".
        Rejected: any other 4xx.
        BadResponse: a status that no answer should have.
    """
    if reply.status == 200:
        return reply.body
    reason = error_text(reply.body)
    raise failure_of(reply.status, f"{url} answered {reply.status}: {reason or 'no message'}", reason, reply.headers)


def failure_of(status: int, message: str, reason: str, headers: Mapping[str, str]) -> OutsideFailure:
    """What a status other than 200 means.

    Args:
        status: of the answer.
        message: what failed and what was seen.
        reason: the service's own words.
        headers: of the answer, found by lower-case names.
    """
    if status in _LATER or status >= 500:
        wait = retry_after_s(headers.get("retry-after"))
        return Unavailable(message, status=status, reason=reason, retry_after_s=wait)
    if 400 <= status < 500:
        return Rejected(message, status=status, reason=reason)
    return BadResponse(f"{message}; expected 200, check the address", status=status, reason=reason)


def retry_after_s(value: str | None) -> float | None:
    """Seconds to wait, an hour at most, from either form of the Retry-After header (seconds, a date); else None."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), _LONGEST_WAIT_S)
    try:
        when = parsedate_to_datetime(value)
        wait = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, wait), _LONGEST_WAIT_S)


def error_text(body: bytes) -> str:
    """The message of an error answer, or the start of whatever came instead."""
    try:
        row = parse_json(body.decode("utf-8"))
    except ValueError:
        row = None
    return printable(message_of(row) or body[:200].decode("utf-8", "replace"))


def message_of(row: object) -> str:
    """The message in the JSON of an error answer, on one line; empty where it holds none.

    OpenAI's servers say `error: {message: …}`, FastAPI's `detail`: a text, or a list of what is wrong and where.
    """
    if isinstance(row, str):
        return " ".join(row[:500].split())
    if isinstance(row, list):
        return "; ".join(filter(None, map(message_of, row[:3])))
    if not isinstance(row, dict):
        return ""
    found = next((text for key in ("error", "message", "detail", "msg") if (text := message_of(row.get(key)))), "")
    place = row.get("loc")
    return f"{'.'.join(map(str, place))}: {found}" if isinstance(place, list) and found else found


def probe(url: str, timeout_s: float) -> int:
    """The status of one GET, redirects not followed: is anybody there?

    Raises:
        Unavailable: nobody, or a connection that broke off or was not made in time.
        ValueError: not an http(s) address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected an address such as http://host:port, found {display_url(url)!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"GET {display_url(url)}: {describe(error)}") from error
    finally:
        connection.close()


def describe(error: BaseException) -> str:
    """Kind and words of an error of a library, on one line."""
    error = getattr(error, "os_error", error)
    return f"{type(error).__name__}: {printable(str(error))}" if str(error) else type(error).__name__


def printable(text: str) -> str:
    """Words of a library or a service on one line: addresses as `display_url` has them, no key of this process."""
    shown = _ADDRESS.sub(lambda found: display_url(found[0]), without_secrets(text))
    return " ".join(shown.split())


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise ImportError("HTTP clients need the aiohttp library: pip install aiohttp") from error
    return aiohttp
