"""No page of a private network is read: every form of address, written in every way that leads there."""

from __future__ import annotations

import asyncio

import pytest
from flask import Flask, redirect, request
from support.services.fake_network import PUBLIC, FakeWire
from support.services.fake_web import article, serve_app

from foundation.retry import RetryPolicy
from retriever import SearchRequest
from retriever.web.disk_cache import DiskCache
from retriever.web.pages import PageRetriever
from retriever.web.public_hosts import why_not_public
from retriever.web.rate_limit import Rate

SECRET = "the password of the inner network is hunter2 " * 9
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.9",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::1", "::", "::a9fe:a9fe", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2001:db8::1",
    "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b::168.63.129.16", "64:ff9b:1::1", "64:ff9b:1::808:808",
    "2002:a9fe:a9fe::1", "2002:7f00:1::", "2002:808:808::1", "2001:0:7f00:1::", "2001:0:808:808::",
]  # fmt: skip
WRITTEN = {"0x7f.1": "127.0.0.1", "2130706433": "127.0.0.1", "127.1": "127.0.0.1", "0177.0.0.1": "127.0.0.1",
           "0xa9fea9fe": "169.254.169.254", "①②⑦.0.0.1": "127.0.0.1", "127。0。0。1": "127.0.0.1"}  # fmt: skip
ALLOWED = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.fixture(scope="module")
def site():
    pytest.importorskip("trafilatura")
    app = Flask("inner")
    app.add_url_rule("/secret", "secret", lambda: article("Secret", SECRET))
    app.add_url_rule("/to", "to", lambda: redirect(request.args["url"]))
    with serve_app(app) as url:
        yield url


def read(urls):
    async def scenario():
        pages = PageRetriever(retry=RetryPolicy(1), rate=Rate(1e6, 1000), probes=())
        try:
            return [await pages.search(SearchRequest(url, 5)) for url in urls]
        finally:
            await pages.close()

    return asyncio.run(scenario())


def literal(address):
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_passes(address):
    assert why_not_public(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_pass(address):
    assert not why_not_public(address)


WAYS = {
    "literal": lambda number, address: (f"http://{literal(address)}/secret", {}),
    "name": lambda number, address: (f"http://inner{number}.test/secret", {f"inner{number}.test": [[address]]}),
    "one of several addresses": lambda number, address: (
        f"http://both{number}.test/secret",
        {f"both{number}.test": [[PUBLIC, address]]},
    ),
    "redirect": lambda number, address: (f"http://public.test/to?url=http://{literal(address)}/secret", {}),
    "redirect to a name": lambda number, address: (
        f"http://public.test/to?url=http://inner{number}.test/secret",
        {f"inner{number}.test": [[address]]},
    ),
    "rebinding": lambda number, address: (
        f"http://rebound{number}.test/secret",
        {f"rebound{number}.test": [[PUBLIC], [address]]},
    ),
    "IDNA": lambda number, address: (
        f"http://faß{number}.test/secret",
        {f"fass{number}.test": [[PUBLIC]], f"faß{number}.test".encode().decode(): [[PUBLIC]],
         _idna_2008(f"faß{number}.test"): [[address]]},
    ),
}  # fmt: skip


def _idna_2008(host):
    import idna

    return idna.encode(host).decode()


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_to_a_private_address(way, site, monkeypatch):
    """Rebinding connects to the address that was checked: the public one, of which there is a page."""
    cases = [WAYS[way](number, address) for number, address in enumerate(PRIVATE)]
    zone = {"public.test": [[PUBLIC]]} | {name: found for _, names in cases for name, found in names.items()}
    wire = FakeWire(site, zone).install(monkeypatch)
    pages = read([url for url, _ in cases])
    assert {address for address in wire.connected if why_not_public(address)} == set()
    if way == "rebinding":
        assert all(pages) and set(wire.lookups) and max(map(wire.lookups.count, wire.lookups)) == 1
    else:
        assert not any(pages)


def test_numbers_in_disguise_are_no_way_in(site, monkeypatch):
    wire = FakeWire(site).install(monkeypatch)
    assert not any(read([f"http://{host}/secret" for host in WRITTEN]))
    assert wire.connected == []


def test_a_private_page_in_the_cache_is_not_shown_to_who_may_not_read_it(site, tmp_path):
    async def scenario(**options):
        pages = PageRetriever(retry=RetryPolicy(1), probes=(), cache=DiskCache(tmp_path), **options)
        try:
            return await pages.search(SearchRequest(f"{site}/secret", 5))
        finally:
            await pages.close()

    assert asyncio.run(scenario(allow_private=True)) and not asyncio.run(scenario(any_port=True))


def test_a_public_page_is_read(site, monkeypatch):
    wire = FakeWire(site, {"public.test": [[PUBLIC]]}).install(monkeypatch)
    found = read(["http://public.test/secret", "http://public.test/to?url=http://1.1.1.1/secret"])
    assert all("hunter2" in hits[0].passage.text for hits in found)
    assert set(wire.connected) == {PUBLIC, "1.1.1.1"}


@pytest.mark.parametrize("url", ["http://public.test:8080/secret", "http://public.test:22/", "http://public.test:0/"])
def test_ports_that_are_not_the_webs_are_refused(url, site, monkeypatch):
    wire = FakeWire(site, {"public.test": [[PUBLIC]]}).install(monkeypatch)
    assert read([url, f"http://public.test/to?url={url}"]) == [(), ()]
    assert len(wire.connected) == 1
