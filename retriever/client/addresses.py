"""The addresses of a service as a user writes them, and the credentials for them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from foundation.http import display_url
from foundation.process import TOKEN_VARIABLE
from foundation.secrets import check_may_carry_key, with_credentials
from retriever.wire.formats import OWN, WireFormat, find_format, format_of_url

_HOST = re.compile(r"[\w.:%-]+")
"""Names and addresses; not what stands between them in a wrongly separated list."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of one server of the service."""

    search: str
    health: str
    has_credentials: bool
    """Whether a user name stands in the address."""


def addresses_and_format(urls: str, wire: str | None = None) -> tuple[list[Address], WireFormat]:
    """The servers of a comma-separated list of addresses, and what they speak.

    Args:
        urls: base addresses, or with the path of a system's searches (`http://127.0.0.1:8000/retrieve`), which then
            says what is spoken; `?wire=NAME` after an address says it by name.
        wire: a row of `retriever.wire.formats.FORMATS`, whatever the addresses say.

    Raises:
        ValueError: no address, one that is not a plain http(s) address, an unknown format or option, or addresses of
            different formats.
    """
    spoken, bases = {}, []
    for url in map(str.strip, urls.split(",")):
        base, named = _without_options(url)
        bases.append(base)
        # A base address beside one with a path is of the same service.
        if named or format_of_url(base).path != OWN.path:
            spoken[named or format_of_url(base).name] = display_url(base)
    if len(spoken) > 1 and wire is None:
        shown = ", ".join(f"{name} at {url}" for name, url in spoken.items())
        raise ValueError(f"the addresses of one service must speak one format, found {shown}")
    wire_format = find_format(wire or next(iter(spoken), "own"))
    return addresses_of(",".join(bases), wire_format.path), wire_format


def _without_options(url: str) -> tuple[str, str]:
    """The address, and the format that it names. Raises ValueError."""
    base, mark, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if mark and set(options) != {"wire"}:
        raise ValueError(
            f"retriever URL must look like http://host:port, with ?wire=NAME as its only option; "
            f"found {display_url(base)} with {', '.join(options) or 'a question mark'}"
        )
    return base, find_format(options["wire"]).name if mark else ""


def addresses_of(urls: str, path: str) -> list[Address]:
    """The servers of a comma-separated list of addresses without options.

    Args:
        urls: each such as `http://127.0.0.1:8000`, with or without the search's path, as other systems write it.
        path: of searches, appended to each base address.

    Raises:
        ValueError: none, or one that is not a plain http(s) address.
    """
    bases = [url.strip().rstrip("/").removesuffix(path) for url in urls.split(",")]
    for base in bases:
        if not _is_base_url(base):
            raise ValueError(f"retriever URL must look like http://host:port, found {display_url(base)!r}")
    whole = map(with_credentials, dict.fromkeys(bases))
    return [Address(base + path, f"{base}/health", "@" in urlsplit(base).netloc) for base in whole]


def authorization(token: str | None, addresses: Sequence[Address]) -> dict[str, str]:
    """The header that carries the token; default is the environment's, unless an address has a user name in it.

    Raises:
        ValueError: a token is given beside a user name, of which only one can be sent; or it would go in clear text to
            another machine.
    """
    named = any(each.has_credentials for each in addresses)
    if token and named:
        raise ValueError("give either a token or a user name in the retriever URL, not both")
    token = token or (None if named else os.environ.get(TOKEN_VARIABLE))
    if not token:
        return {}
    for each in addresses:
        check_may_carry_key(each.search, f"the token ({TOKEN_VARIABLE})")
    return {"Authorization": f"Bearer {token}"}


def _is_base_url(url: str) -> bool:
    parts = urlsplit(url)
    try:
        port_is_legal = parts.port != 0
    except ValueError:
        return False
    plain = not parts.query and not parts.fragment
    host = _HOST.fullmatch(parts.hostname or "")
    return parts.scheme in ("http", "https") and bool(host) and port_is_legal and plain
