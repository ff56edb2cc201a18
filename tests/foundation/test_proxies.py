"""Which proxy of the environment an address is reached through."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from foundation.errors import InputError, Unavailable
from foundation.http import AddressRefused, AiohttpTransport, HttpLimits
from foundation.proxies import is_near, proxy_for
from retriever.client.transport import web_transport

VARIABLES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@pytest.fixture
def environment(monkeypatch):
    """Sets the proxy variables, and no others."""

    def given(**variables: str) -> None:
        for name in VARIABLES:
            for spelling in (name, name.upper()):
                monkeypatch.delenv(spelling, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    given()
    return given


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",  # THUDM/slime PR #1714, vllm-project/vllm #1519
        "http://127.1.2.3",
        "http://localhost:8000",
        "http://LOCALHOST:8000",
        "http://judge.localhost",
        "http://[::1]:8000/v1",
        "http://0.0.0.0:8000",
        "http://10.0.3.7:8000",  # hiyouga/LlamaFactory PR #7332: other machines of the cluster
        "http://192.168.1.5",
        "http://172.20.0.2",
        "http://169.254.169.254/latest",
        "http://100.64.0.9",
        "http://[fd00::7]:80",
        "http://[fe80::1%25eth0]:80",
        "http://node17:8000/retrieve",
        "http://judge.default.svc.cluster.local/v1",
    ],
)
def test_what_is_near_is_reached_directly(url, environment):
    environment(http_proxy="http://proxy:3128", https_proxy="http://proxy:3128", all_proxy="socks5://proxy:1080")
    assert proxy_for(url) is None


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"https_proxy": "http://u:p@proxy:3128"}, "https://api.example.org/v1", "http://u:p@proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://api.example.org/v1", "http://proxy:3128"),
        ({"http_proxy": "http://proxy"}, "https://api.example.org", None),
        ({"ALL_PROXY": "http://proxy"}, "https://api.example.org", "http://proxy"),
        ({"ALL_PROXY": "socks5://p", "https_proxy": "http://proxy"}, "https://api.example.org", "http://proxy"),
        ({"https_proxy": ""}, "https://api.example.org", None),
        ({}, "https://api.example.org", None),
        ({"http_proxy": "http://proxy"}, "http://8.8.8.8", "http://proxy"),
        ({"http_proxy": "http://proxy"}, "http://mylocalhost.example.org", "http://proxy"),
    ],
)
def test_the_web_is_reached_through_the_proxy_that_is_set(variables, url, proxy, environment):
    environment(**variables)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("example.org", "https://api.example.org", True),
        (".example.org", "https://api.example.org", True),
        ("*.example.org", "https://api.example.org:8443", True),
        ("ample.org", "https://api.example.org", False),
        ("api.example.org:8443", "https://api.example.org:8443", True),
        ("api.example.org:8443", "https://api.example.org", False),
        ("localhost, example.org ,x", "https://api.example.org", True),
        ("localhost example.org", "https://api.example.org", True),
        ("a.b,*", "https://api.example.org", True),
        # networks, which break httpx: wecode-ai/Wegent PR #3556, projectdiscovery/httpx #1772, encode/httpx #2660
        ("8.8.0.0/16", "https://8.8.4.4", True),
        ("8.8.0.0/16", "https://8.9.4.4", False),
        ("fd00::/8,2001:4860::/32", "https://[2001:4860::1]:443", True),
        ("2001:4860::1", "https://[2001:4860::1]:443", True),
        ("::1/128,192.168.0.0/24,/,[", "https://api.example.org", False),
    ],
)
def test_exceptions(no_proxy, url, direct, environment):
    environment(https_proxy="http://proxy", no_proxy=no_proxy)
    assert proxy_for(url) == (None if direct else "http://proxy")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "SOCKS5"])
def test_a_proxy_that_cannot_be_used_is_refused_where_it_would_be_used(scheme, environment):
    """chatchat-space/Langchain-Chatchat #605, open-webui/open-webui #15683."""
    environment(ALL_PROXY=f"{scheme}://127.0.0.1:1080", NO_PROXY="intranet.example.org")
    assert proxy_for("http://127.0.0.1:9") is proxy_for("https://intranet.example.org") is None
    with pytest.raises(InputError, match=r"all_proxy names a socks\w+ proxy.*https://api.example.org.*no_proxy"):
        proxy_for("https://user:secret@api.example.org/v1?key=secret")


def test_a_name_with_a_dot_is_not_looked_up():
    assert not is_near("example.invalid") and is_near("judge") and is_near("printer.local.")


@pytest.fixture
def seen_by_proxy(environment):
    """A proxy on this machine, set for http; gives the addresses that it is asked for."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status = 407 if "denied" in self.path else 200
            self.send_response(status)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"page")

        do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    environment(http_proxy=address, https_proxy=address)
    yield asked
    server.shutdown()
    server.server_close()


def fetched(url: str, **settings) -> bytes:
    async def get() -> bytes:
        transport = AiohttpTransport(HttpLimits(), **settings)
        try:
            return (await transport.send("GET", url, None, 5.0)).body
        finally:
            await transport.close()

    return asyncio.run(get())


def test_pages_come_through_the_proxy_and_sources_of_one_s_own_do_not(seen_by_proxy):
    assert fetched("http://page.invalid/a?b=c", proxies=True) == b"page"
    assert seen_by_proxy == ["http://page.invalid/a?b=c"]
    with pytest.raises(Unavailable, match="page.invalid"):
        fetched("http://page.invalid/a")
    with pytest.raises(Unavailable, match="127.0.0.1:9"):
        fetched("http://127.0.0.1:9/a", proxies=True)
    assert len(seen_by_proxy) == 1


def test_a_guard_is_asked_about_the_page_and_not_about_the_proxy(seen_by_proxy):
    def near(address: str) -> str:
        return "in a private network" if is_near(address) else ""

    assert fetched("http://page.invalid/", proxies=True, guard=near) == b"page"
    for url in ("http://127.0.0.1:80/", "http://localhost/", "http://169.254.169.254/"):
        with pytest.raises(AddressRefused, match="private network"):
            fetched(url, proxies=True, guard=near)
    assert len(seen_by_proxy) == 1


def test_a_proxy_that_refuses_or_is_not_there_is_named(seen_by_proxy, environment):
    with pytest.raises(Unavailable, match=r"https://denied.invalid/: the proxy http://127.0.0.1:\d+ answers 407"):
        fetched("https://denied.invalid/", proxies=True)
    environment(http_proxy="http://me:secret@127.0.0.1:9")
    with pytest.raises(Unavailable, match="no proxy at http://127.0.0.1:9") as caught:
        fetched("http://page.invalid/", proxies=True)
    assert "secret" not in str(caught.value)


def test_a_transport_for_the_web_says_at_once_that_a_proxy_cannot_be_used(environment):
    environment(all_proxy="socks5://127.0.0.1:1080")
    AiohttpTransport(HttpLimits())
    with pytest.raises(InputError, match="socks5 proxy"):
        AiohttpTransport(HttpLimits(), proxies=True)
    with pytest.raises(ValueError, match="socks5 proxy"):
        web_transport(read_timeout=1, max_bytes=1)
