"""Our search as MCP tools: asked by the official client, in memory, over HTTP and over a process's streams."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from support.processes.commands import status_of
from support.services.asgi_servers import serve_asgi

from data_prep.corpus.__main__ import main as corpus_main
from foundation.retry import RetryPolicy
from retriever import LocalRetriever, SearchRequest
from retriever.index.corpus import write_corpus
from retriever.index.store import PassageStore
from retriever.mcp import Documents, create_server, guarded, main
from retriever.passage import Passage
from retriever.sources import open_retriever

TOKEN = "token-canary-0123456789"


@pytest.fixture
def server(bm25, passages):
    return create_server(LocalRetriever(bm25), Documents(passages))


def ask(server, *calls: tuple[str, dict]):
    """The results of calls to the tools of a server, by the official client."""

    async def scenario():
        async with Client(server) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(scenario())


def test_what_is_offered(server):
    async def scenario():
        async with Client(server) as client:
            return (await client.list_tools()).tools

    search, get_document = asyncio.run(scenario())
    assert (search.name, get_document.name) == ("search", "get_document")
    assert search.input_schema["required"] == ["query"]
    assert search.input_schema["properties"]["top_k"]["maximum"] == 50
    assert search.description and search.annotations.read_only_hint and search.output_schema


def test_a_search_and_a_document(server, bm25, passages):
    (found,) = ask(server, ("search", {"query": "akkadian spirit", "top_k": 1}))
    (hit,) = bm25.search(["akkadian spirit"], 1)[0]
    row = {"id": hit.passage.id, "title": hit.passage.title, "text": hit.passage.text}
    assert found.structured_content == {"results": [{**row, "score": hit.score}]}
    assert json.loads(found.content[0].text) == found.structured_content, "for clients that read texts only"
    (document,) = ask(server, ("get_document", {"id": passages[-1].id}))
    assert document.structured_content["text"] == passages[-1].text, "also one that no search has found"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("get_document", {"id": "nobody"}), "no passage with the id 'nobody'"),
        (("search", {}), "query"),
        (("search", {"query": "a", "top_k": 0}), "top_k"),
        (("search", {"query": "a", "top_k": 51}), "top_k"),
        (("search", {"query": "a" * 9000}), "query"),
        (("nothing", {}), "nothing"),
    ],
)
def test_what_is_refused(server, call, said):
    (result,) = ask(server, call)
    assert result.is_error and said in result.content[0].text


@pytest.mark.parametrize("flags", [["--corpus", "corpus.jsonl"], ["--search", "mcp:http://127.0.0.1:9/mcp"]])
def test_a_missing_library_is_one_line(passages, tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus.jsonl", passages)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    assert main(flags) == 2
    assert "retriever.mcp: MCP needs the mcp library: pip install mcp" in capsys.readouterr().err


def test_a_source_that_is_down_is_said(caplog):
    async def scenario():
        retriever = open_retriever("http://127.0.0.1:9", retry=RetryPolicy(1))
        async with Client(create_server(retriever, Documents())) as client:
            result = await client.call_tool("search", {"query": "a"})
        await retriever.close()
        return result

    result = asyncio.run(scenario())
    assert result.is_error and "the search failed (unavailable): cannot connect" in result.content[0].text
    assert "127.0.0.1:9" in caplog.text


def test_documents_of_a_source_are_those_that_were_used_last():
    documents = Documents(remembered=2)
    for name in "abca":
        documents.remember(Passage(name, "", name))
    assert [documents.get(name) is not None for name in "abcd"] == [True, False, True, False]
    documents.remember(Passage("a", "", "a"))
    documents.get("c")
    documents.remember(Passage("d", "", "d"))
    assert [documents.get(name) is not None for name in "acd"] == [False, True, True], "what was asked for stays"


def test_documents_of_a_store(tmp_path, passages, capsys):
    write_corpus(tmp_path / "corpus.jsonl", passages)
    flags = ["--format", "jsonl", "--input", str(tmp_path / "corpus.jsonl"), "--out", str(tmp_path / "store")]
    assert status_of(corpus_main, *flags) == 0
    documents = Documents(PassageStore.open(tmp_path / "store"))
    assert documents.get(passages[1].id) == passages[1] and documents.get("nobody") is None


def test_our_tools_as_our_source(server, bm25):
    """Both ways at once: hits come back as they are, scores too."""

    async def scenario(url: str):
        retriever = open_retriever(f"mcp:{url}/mcp", retry=RetryPolicy(1))
        try:
            return await retriever.search(SearchRequest("akkadian spirit", 10))
        finally:
            await retriever.close()

    app = server.streamable_http_app(stateless_http=True, json_response=True)
    with serve_asgi(app) as url:
        assert asyncio.run(scenario(url)) == tuple(bm25.search(["akkadian spirit"], 10)[0])


def test_over_http_callers_send_the_token(server, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", TOKEN)

    async def health(url: str, options: str):
        retriever = open_retriever(f"mcp:{url}/mcp{options}", retry=RetryPolicy(1))
        try:
            return (await retriever.health()).status
        except Exception as error:
            return type(error).__name__
        finally:
            await retriever.close()

    app = guarded(server.streamable_http_app(stateless_http=True, json_response=True), TOKEN)
    with serve_asgi(app) as url:
        assert asyncio.run(health(url, "?key_variable=MY_TOKEN")) == "ready"
        assert asyncio.run(health(url, "")) == "RetrieverRejected"
        monkeypatch.setenv("MY_TOKEN", "another")
        assert asyncio.run(health(url, "?key_variable=MY_TOKEN")) == "RetrieverRejected"


def test_a_page_of_another_site_cannot_ask_it(server):
    """A browser sends the name that it was told, also where that name has come to mean this machine."""

    async def statuses(url: str):
        import httpx2

        async with httpx2.AsyncClient() as client:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            accept = {"Accept": "application/json, text/event-stream"}
            sent = [{"Host": "evil.example"}, {"Origin": "https://evil.example"}]
            return [(await client.post(f"{url}/mcp", json=body, headers=accept | each)).status_code for each in sent]

    with serve_asgi(server.streamable_http_app(stateless_http=True, json_response=True)) as url:
        assert asyncio.run(statuses(url)) == [421, 403]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--search", "simulate:http://127.0.0.1:9/v1"], "needs the question"),
        (["--search", "nowhere:"], "a retriever is written as one of"),
        (["--corpus", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--corpus", "CORPUS", "--port", "0", "--token-file", "nowhere"], "--token-file nowhere"),
        ([], "one of the arguments"),
    ],
)
def test_bad_input_is_one_line(flags, said, tmp_path, passages, capsys):
    write_corpus(tmp_path / "corpus.jsonl", passages)
    given = [str(tmp_path / "corpus.jsonl") if flag == "CORPUS" else flag for flag in flags]
    assert status_of(main, *given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert said in line


@pytest.mark.e2e
def test_an_agent_starts_it_and_speaks_to_its_streams(tmp_path, passages):
    """A process, because its standard output must hold nothing but the protocol."""
    write_corpus(tmp_path / "corpus.jsonl", passages)
    root = str(Path(__file__).resolve().parents[2])
    flags = ["-m", "retriever.mcp", "--corpus", str(tmp_path / "corpus.jsonl")]
    command = StdioServerParameters(command=sys.executable, args=flags, cwd=root)
    (found,) = ask(command, ("search", {"query": "akkadian spirit", "top_k": 2}))
    assert {row["id"] for row in found.structured_content["results"]} == {"p0", "p1"}


@pytest.mark.e2e
def test_the_command_over_http_until_a_signal(tmp_path, passages):
    """A process, because the signal and the exit status are the point."""
    write_corpus(tmp_path / "corpus.jsonl", passages)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "retriever.mcp", "--corpus", tmp_path / "corpus.jsonl", "--port", "0"]

    async def search(url: str):
        retriever = open_retriever(f"mcp:{url}", read_timeout=60, retry=RetryPolicy(1))
        try:
            return await retriever.search(SearchRequest("akkadian spirit", 2))
        finally:
            await retriever.close()

    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as served:
        assert served.stdout is not None
        hits = asyncio.run(search(served.stdout.readline().strip()))
        served.terminate()
        assert served.wait(60) == 0
    assert {hit.passage.id for hit in hits} == {"p0", "p1"}
