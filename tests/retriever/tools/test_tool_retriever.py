"""`mcp:` sources against real servers: their answers, their failures, and what they get to see."""

from __future__ import annotations

import asyncio
import logging
import sys
import textwrap
from types import SimpleNamespace

import pytest
from mcp.server.mcpserver import MCPServer
from mcp_types import EmbeddedResource, ResourceLink, TextContent, TextResourceContents
from support.services.asgi_servers import serve_asgi
from support.services.mcp_servers import server_of

from foundation.retry import RetryPolicy
from retriever.errors import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
)
from retriever.interface import Health
from retriever.passage import Hit, Hits, Passage, SearchRequest
from retriever.record import ReplayRetriever
from retriever.sources import open_retriever

KEY = "sk-canary-0123456789"
ONCE = RetryPolicy(1, deadline=20)


def play(source: str, *queries: str, top_k: int = 5, retry: RetryPolicy = ONCE, read_timeout: float = 20) -> list[Hits]:
    """The answers of a source to queries, one after the other."""

    async def scenario() -> list[Hits]:
        retriever = open_retriever(source, retry=retry, read_timeout=read_timeout)
        try:
            return [await retriever.search(SearchRequest(query, top_k)) for query in queries]
        finally:
            await retriever.close()

    return asyncio.run(scenario())


def titles(hits: Hits) -> list[str]:
    return [hit.passage.title for hit in hits]


class Counter:
    """Calls under way, at most and now; and how often the tool fails from here on."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = self.failing = 0


COUNTS = Counter()


def foreign() -> MCPServer:
    """Tools of several shapes, none of them ours."""

    def web_search(q: str, numResults: int = 10) -> dict:
        rows = [{"name": f"{q} {n}", "link": f"http://x/{n}", "snippet": f"about {n}"} for n in range(numResults)]
        return {"web": {"results": rows}}

    def lines(search_term: str) -> str:
        return f"Title: {search_term}\nURL: http://x/1\nDescription: one\n\nTitle: B\nURL: http://x/2\nDescription: two"

    def nachschlagen(thema: str, wo: str, viele: int) -> dict:
        return {"treffer": [{"kopf": f"{thema} in {wo}", "inhalt": "x", "nr": n} for n in range(viele)]}

    def mixed(query: str) -> list:
        inside = TextResourceContents(uri="file:///r", text="embedded")
        link = ResourceLink(uri="file:///l", name="linked", description="elsewhere")
        return [TextContent(text="plain"), EmbeddedResource(resource=inside), link]

    def many(queries: list[str]) -> list:
        return [[{"title": query, "text": "x"}] for query in queries]

    async def slow(query: str) -> list:
        await asyncio.sleep(30 if query == "for ever" else 0)
        return [{"title": query}]

    four = asyncio.Barrier(4)

    async def together(query: str) -> list:
        COUNTS.now += 1
        COUNTS.most = max(COUNTS.most, COUNTS.now)
        await four.wait()
        COUNTS.now -= 1
        return [{"title": query}]

    def fails(query: str) -> list:
        COUNTS.calls += 1
        if COUNTS.calls <= COUNTS.failing:
            raise RuntimeError("upstream is down")
        return [{"title": query}]

    def garbage(query: str) -> dict:
        return {"rows": [1, 2]}

    def huge(query: str) -> str:
        return "x" * (5 << 20)

    tools = (web_search, lines, nachschlagen, mixed, many, slow, together, fails, garbage, huge)
    return server_of(**{tool.__name__: tool for tool in tools})


@pytest.fixture(scope="module")
def servers():
    """The same tools over both kinds of HTTP."""
    with serve_asgi(foreign().streamable_http_app()) as http, serve_asgi(foreign().sse_app()) as sse:
        yield SimpleNamespace(http=f"mcp:{http}/mcp", sse=f"mcp:{sse}/sse", port=int(http.rpartition(":")[2]))


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_a_foreign_tool_answers(servers, transport):
    (hits,) = play(f"{getattr(servers, transport)}?tool=web_search", "tower", top_k=2)
    assert hits == (
        Hit(Passage("http://x/0", "tower 0", "about 0"), 1.0),
        Hit(Passage("http://x/1", "tower 1", "about 1"), 0.5),
    )


def test_the_transport_can_be_named(servers):
    assert titles(play(f"{servers.sse}?tool=web_search&transport=sse", "a", top_k=1)[0]) == ["a 0"]


def test_other_shapes(servers):
    assert titles(play(f"{servers.http}?tool=lines", "A")[0]) == ["A", "B"]
    assert titles(play(f"{servers.http}?tool=many", "A")[0]) == ["A"]
    assert [hit.passage.text for hit in play(f"{servers.http}?tool=mixed", "A")[0]] == [
        "plain",
        "embedded",
        "elsewhere",
    ]


def test_names_in_the_source(servers):
    names = 'query=thema&top_k=viele&arguments={"wo":"Rom"}&results=treffer&title=kopf&text=inhalt&id=nr'
    (hits,) = play(f"{servers.http}?tool=nachschlagen&{names}", "Wein", top_k=2)
    assert [(hit.passage.id, hit.passage.title) for hit in hits] == [("0", "Wein in Rom"), ("1", "Wein in Rom")]


def test_health_names_server_and_tool_and_calls_none(servers):
    async def scenario() -> Health:
        retriever = open_retriever(f"{servers.http}?tool=fails")
        try:
            return await retriever.health()
        finally:
            await retriever.close()

    COUNTS.calls = 0
    assert asyncio.run(scenario()) == Health("ready", "mcp:foreign/fails", 0) and COUNTS.calls == 0


def test_an_empty_query_is_not_sent():
    assert play("mcp:http://127.0.0.1:9/mcp", " ") == [()]


def test_searches_are_recorded(servers, tmp_path):
    played = play(f"record:{tmp_path}/r.jsonl|{servers.http}?tool=web_search", "a", top_k=3)
    replayed = asyncio.run(ReplayRetriever(tmp_path / "r.jsonl").search(SearchRequest("a", 3)))
    assert [replayed] == played


def test_searches_run_side_by_side_within_the_limit(servers):
    async def scenario() -> list[Hits]:
        retriever = open_retriever(f"{servers.http}?tool=together&concurrency=4", retry=ONCE)
        try:
            return await asyncio.gather(*(retriever.search(SearchRequest(str(n), 1)) for n in range(16)))
        finally:
            await retriever.close()

    COUNTS.now = COUNTS.most = 0
    assert [titles(hits) for hits in asyncio.run(scenario())] == [[str(n)] for n in range(16)]
    assert COUNTS.most == 4


# --- failures


FAILURES = [
    ("tool=nobody", RetrieverRejected, "it has no tool 'nobody'; it has fails, garbage, huge"),
    ("tool=nachschlagen", RetrieverRejected, "also requires"),
    ("tool=web_search&query=nobody", RetrieverRejected, "it also requires q"),
    ("tool=garbage", RetrieverBadResponse, "no results under any known name in an answer with rows"),
    ("tool=lines&results=rows", RetrieverBadResponse, "expected a list of results at rows"),
    ("tool=huge", RetrieverError, "127.0.0.1"),
]


@pytest.mark.parametrize(("options", "kind", "said"), FAILURES)
def test_what_fails_and_how(servers, options, kind, said):
    with pytest.raises(kind, match=said) as caught:
        play(f"{servers.http}?{options}", "q")
    assert "\n" not in str(caught.value)


def test_without_a_name_the_tool_that_searches_is_asked():
    with serve_asgi(server_of(web_search=lambda q: [q], fetch=lambda url: url).streamable_http_app()) as url:
        assert play(f"mcp:{url}/mcp", "words")[0][0].passage.text == "words"


def test_which_of_two_tools_searches_has_to_be_said():
    app = server_of(web_search=lambda q: [q], image_search=lambda q: [q]).streamable_http_app()
    with serve_asgi(app) as url, pytest.raises(RetrieverRejected, match="which of its tools searches"):
        play(f"mcp:{url}/mcp", "words")


def test_a_failing_tool_is_tried_again_within_bounds(servers):
    retry = RetryPolicy(3, backoff=0, deadline=20)
    COUNTS.calls, COUNTS.failing = 0, 2
    assert titles(play(f"{servers.http}?tool=fails", "a", retry=retry)[0]) == ["a"]
    COUNTS.calls, COUNTS.failing = 0, 99
    with pytest.raises(RetrieverUnavailable, match="gave up after attempt 3 of 3"):
        play(f"{servers.http}?tool=fails", "a", retry=retry)
    assert COUNTS.calls == 3
    COUNTS.failing = 0


def test_a_call_that_takes_too_long_and_the_next(servers):
    async def scenario() -> Hits:
        retriever = open_retriever(f"{servers.http}?tool=slow", retry=ONCE, read_timeout=1)
        try:
            await retriever.health()
            with pytest.raises(RetrieverTimeout, match="within 1 s"):
                await retriever.search(SearchRequest("for ever", 1))
            await retriever.health()  # a new connection: the old one may hang
            return await retriever.search(SearchRequest("soon", 1))
        finally:
            await retriever.close()

    assert titles(asyncio.run(scenario())) == ["soon"]


def test_nobody_is_there():
    with pytest.raises(RetrieverUnavailable, match="http://127.0.0.1:9/mcp: ConnectError"):
        play("mcp:http://127.0.0.1:9/mcp", "q")


def test_a_server_that_is_killed_and_started_again():
    async def scenario() -> list[list[str]]:
        app = foreign().streamable_http_app()
        with serve_asgi(app) as url:
            patient = RetryPolicy(4, backoff=0.1, deadline=20)
            retriever = open_retriever(f"mcp:{url}/mcp?tool=web_search", retry=patient)
            seen = [titles(await retriever.search(SearchRequest("a", 1)))]
        with pytest.raises(RetrieverUnavailable):
            await retriever.search(SearchRequest("b", 1))
        with serve_asgi(foreign().streamable_http_app(), int(url.rpartition(":")[2])):
            seen.append(titles(await retriever.search(SearchRequest("c", 1))))
            await retriever.close()
        return seen

    assert asyncio.run(scenario()) == [["a 0"], ["c 0"]]


def answering(status: int, content_type: str, body: bytes):
    """An app that answers everything the same; it notes the headers of what it is asked."""

    async def app(scope, receive, send) -> None:
        app.headers = dict(scope["headers"])
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type.encode())]}
        )
        await send({"type": "http.response.body", "body": body})

    app.headers = {}
    return app


@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind"),
    [
        (200, "text/html", b"<html>hello</html>", RetrieverError),
        (200, "application/json", b"{]", RetrieverBadResponse),
        (200, "application/json", b'{"jsonrpc": "2.0", "id": 1, "result": 7}', RetrieverError),
        (200, "application/json", b"[" * 100_000, RetrieverBadResponse),
        (200, "application/json", b'"' + b"x" * (5 << 20) + b'"', RetrieverBadResponse),
        (401, "application/json", b'{"error": "no"}', RetrieverRejected),
        (403, "text/plain", b"no", RetrieverRejected),
        (404, "text/plain", b"no", RetrieverRejected),
        (429, "text/plain", b"later", RetrieverUnavailable),
        (503, "text/plain", b"later", RetrieverUnavailable),
        (302, "text/plain", b"", RetrieverError),
    ],
)
def test_what_is_no_mcp_server(status, content_type, body, kind):
    with serve_asgi(answering(status, content_type, body)) as url, pytest.raises(kind) as caught:
        play(f"mcp:{url}/mcp?tool=search", "q")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [401, 503])
def test_a_refused_event_stream(status):
    kind = RetrieverRejected if status == 401 else RetrieverUnavailable
    with serve_asgi(answering(status, "text/plain", b"no")) as url, pytest.raises(kind, match=f"answered {status}"):
        play(f"mcp:{url}/sse?tool=search", "q")


# --- keys


def test_keys_reach_the_server_and_nobody_else(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FOREIGN_API_KEY", KEY)
    app = answering(401, "text/plain", KEY.encode())
    with serve_asgi(app) as url:
        for options, header, value in [
            ("", b"authorization", f"Bearer {KEY}"),
            ("&key_header=X-Api-Key", b"x-api-key", KEY),
        ]:
            with pytest.raises(RetrieverRejected) as caught:
                play(f"mcp:{url}/mcp?secret={KEY}?key_variable=FOREIGN_API_KEY{options}", "q")
            assert app.headers[header] == value.encode()
            assert KEY not in str(caught.value)
    records = [record for record in caplog.records if not record.name.startswith(("httpcore2", "uvicorn"))]
    assert KEY not in "\n".join(map(caplog.handler.format, records))


def test_a_missing_key(monkeypatch, servers):
    monkeypatch.delenv("FOREIGN_API_KEY", raising=False)
    with pytest.raises(RetrieverRejected, match="FOREIGN_API_KEY is not set"):
        play(f"{servers.http}?tool=lines&key_variable=FOREIGN_API_KEY", "q")


def test_no_key_goes_in_clear_text_to_another_machine():
    with pytest.raises(ValueError, match="in clear text"):
        open_retriever("mcp:http://search.example/mcp?key_variable=FOREIGN_API_KEY")


# --- commands

STDIO = """
import os, sys
sys.path.insert(0, {path!r})
from mcp.server.mcpserver import MCPServer
server = MCPServer("local", log_level="CRITICAL")

@server.tool()
def search(query: str) -> list:
    if query == "die":
        os._exit(3)
    return [{{"title": name, "text": str(os.getpid())}} for name in sorted(os.environ)]

server.run("stdio")
"""


@pytest.mark.e2e
def test_a_command_gets_the_keys_that_are_named_for_it_and_is_started_again(monkeypatch, tmp_path):
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(STDIO.format(path=str(tmp_path))))
    monkeypatch.setenv("FOREIGN_API_KEY", KEY)
    monkeypatch.setenv("OTHER_API_KEY", KEY)

    async def scenario() -> tuple[Hits, Hits]:
        source = f"mcp:{sys.executable} {script}?env=FOREIGN_API_KEY"
        retriever = open_retriever(source, retry=ONCE, read_timeout=60)
        try:
            first = await retriever.search(SearchRequest("environment", 50))
            with pytest.raises(RetrieverUnavailable):
                await retriever.search(SearchRequest("die", 50))
            return first, await retriever.search(SearchRequest("environment", 50))
        finally:
            await retriever.close()

    first, second = asyncio.run(scenario())
    assert "FOREIGN_API_KEY" in titles(first) and "OTHER_API_KEY" not in titles(first)
    assert titles(second) == titles(first) and second[0].passage.text != first[0].passage.text, "another process"


def test_a_command_that_ends_at_once():
    with pytest.raises(RetrieverError, match="^true: ") as caught:
        play(f"mcp:true --api-key {KEY}?tool=search", "q")
    assert KEY not in str(caught.value)


def test_a_server_that_never_answers(monkeypatch):
    monkeypatch.setattr("retriever.tools.session.CONNECT_S", 0.3)
    with pytest.raises(RetrieverTimeout, match="sleep did not open an MCP connection within 0.3 s"):
        play("mcp:sleep 30?tool=search", "q")
