"""The addresses of a service as a user writes them, and the credentials for them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from foundation.http import display_url
from foundation.process import TOKEN_VARIABLE

_HOST = re.compile(r"[\w.:%-]+")
"""Names and addresses; not what stands between them in a wrongly separated list."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of one server of the service."""

    search: str
    health: str
    has_credentials: bool
    """Whether a user name stands in the address."""


def addresses_of(urls: str, path: str) -> list[Address]:
    """The servers of a comma-separated list of base addresses.

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
    return [Address(base + path, f"{base}/health", "@" in urlsplit(base).netloc) for base in dict.fromkeys(bases)]


def authorization(token: str | None, addresses: Sequence[Address]) -> dict[str, str]:
    """The header that carries the token; default is the environment's, unless an address has a user name in it.

    Raises:
        ValueError: a token is given beside a user name: only one of the two can be sent.
    """
    named = any(each.has_credentials for each in addresses)
    if token and named:
        raise ValueError("give either a token or a user name in the retriever URL, not both")
    token = token or (None if named else os.environ.get(TOKEN_VARIABLE))
    return {"Authorization": f"Bearer {token}"} if token else {}


def _is_base_url(url: str) -> bool:
    parts = urlsplit(url)
    try:
        port_is_legal = parts.port != 0
    except ValueError:
        return False
    plain = not parts.query and not parts.fragment
    host = _HOST.fullmatch(parts.hostname or "")
    return parts.scheme in ("http", "https") and bool(host) and port_is_legal and plain
