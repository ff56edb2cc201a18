"""A name server and a network of the test's making: every public address leads to one local site."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

PUBLIC = "93.184.216.34"


@dataclass
class FakeWire:
    """What names stand for, and who was connected to."""

    site: str
    """Address of the local server that answers in everybody's name."""
    zone: dict[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    """Name (as a name server sees it) to the addresses of its first, second, ... lookup; the last one repeats."""
    connected: list[str] = field(default_factory=list)
    lookups: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeWire:
        real_connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect
        wire = self

        async def sock_connect(loop, sock, address):
            wire.connected.append(str(address[0]))
            if sock.family != socket.AF_INET:
                raise ConnectionRefusedError("the fake network is IPv4 only")
            site = urlsplit(wire.site)
            await real_connect(loop, sock, (site.hostname, site.port))

        async def getaddrinfo(loop, host, port, *, family=0, type=0, proto=0, flags=0):
            name = host.encode("idna").decode() if isinstance(host, str) else host.decode()
            if name not in wire.zone:
                return socket.getaddrinfo(name, port, family=family, type=type, flags=flags | socket.AI_NUMERICHOST)
            asked = wire.lookups.count(name)
            wire.lookups.append(name)
            addresses = wire.zone[name][min(asked, len(wire.zone[name]) - 1)]
            return [entry for address in addresses for entry in socket.getaddrinfo(address, port, type=type)]

        monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect)
        monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
        return self


def zone_of(names: Mapping[str, str]) -> dict[str, Sequence[Sequence[str]]]:
    """A zone in which every name has one address, always."""
    return {name: [[address]] for name, address in names.items()}
