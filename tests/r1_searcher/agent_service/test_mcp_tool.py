"""The agent as a tool: asked by the official client over HTTP, refused, hung up on, and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from support.episodes.asked_agents import FOUND, FakePolicies, agent_of, load_of
from support.services.asgi_servers import serve_asgi

from r1_searcher.agent_service.app import create_app
from r1_searcher.agent_service.service import AgentService, ServiceLimits
from r1_searcher.inference.agent import Agent
from retriever.errors import RetrieverUnavailable

QUESTION = "Where is the tower?"
CALL = {"name": "ask", "arguments": {"question": QUESTION}}
RAW = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def serve(service_of) -> Callable[..., Any]:
    """Serves agents over HTTP; gives the address and the service."""

    @contextmanager
    def serving(*agents: Agent, limits: ServiceLimits | None = None, **options: Any) -> Iterator[tuple[str, Any]]:
        with service_of(*agents, limits=limits) as service, serve_asgi(create_app(service, **options)) as url:
            yield f"{url}/mcp", service

    return serving


def asked(url: str, *calls: dict[str, Any], **options: Any) -> list[Any]:
    """The results of calls of the tool."""

    async def scenario(client: Client) -> list[Any]:
        return [await client.call_tool("ask", call, **options) for call in calls]

    return with_client(url, scenario)


def with_client(url: str, use: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    async def scenario() -> Any:
        async with Client(url) as client:
            return await use(client)

    return asyncio.run(scenario())


def test_what_is_offered(serve):
    async def tools(client: Client) -> Any:
        return (await client.list_tools()).tools

    with serve() as (url, _):
        (tool,) = with_client(url, tools)
    assert tool.name == "ask" and tool.description and tool.output_schema and tool.annotations.read_only_hint
    assert tool.input_schema["required"] == ["question"] and set(tool.input_schema["properties"]) == {
        "question",
        "model",
    }


def test_a_question_is_answered_with_its_sources_and_kept(serve):
    heard = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, message))

    with serve() as (url, service):
        (result,) = asked(url, {"question": QUESTION}, progress_callback=progress)
        said = result.structured_content
        stored = service.store.get(said["id"])
    sources = [{"id": p.id, "title": p.title, "text": p.text, "query": "tower"} for p in FOUND]
    assert (said["answer"], said["stop_reason"], said["searches"]) == ("Paris", "answered", 1)
    assert (said["sources"], said["model"]) == (sources, "model1")
    assert heard == [(1, "searching: tower")]
    assert stored["question"] == QUESTION and stored["events"][-1]["answer"] == "Paris"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"question": "Where?", "model": "nobody"}, "model_not_found: there is no model 'nobody'; known: model1"),
        ({"question": " "}, "invalid_request: "),
        ({"question": "a" * 9000}, "question"),
        ({}, "question"),
    ],
    ids=["model", "blank", "long", "missing"],
)
def test_what_is_refused(serve, call, said):
    with serve() as (url, service):
        (result,) = asked(url, call)
        assert load_of(service) == (0, 0)
    assert result.is_error and said in result.content[0].text


def test_a_search_that_failed_is_said_and_not_answered_around(serve):
    with serve(agent_of(None, RetrieverUnavailable("cannot connect"))) as (url, _):
        (result,) = asked(url, {"question": QUESTION})
    assert result.is_error and "retriever_unavailable: the search failed: " in result.content[0].text


def test_the_token_is_asked_for(serve):
    async def answer(url: str, token: str) -> str:
        http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
        async with http, Client(streamable_http_client(url, http_client=http)) as client:
            return (await client.call_tool("ask", {"question": QUESTION})).structured_content["answer"]

    with serve(token="canary") as (url, service):
        assert httpx.post(url, json=RAW, headers=ACCEPT).status_code == 401
        assert asyncio.run(answer(url, "canary")) == "Paris"
        assert 'path="/mcp",status="401"' in service.metrics.render().decode()


def test_a_page_of_another_site_cannot_ask(serve):
    """A browser sends the name that it was told, also where that name has come to mean this machine."""
    with serve() as (url, _):
        sent = [{"Host": "evil.example"}, {"Origin": "https://evil.example"}]
        statuses = [httpx.post(url, json=RAW, headers=ACCEPT | each).status_code for each in sent]
        assert statuses == [421, 403]


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
def test_who_hangs_up_gives_everything_back(serve, version):
    policies = FakePolicies(pause_s=3600)
    headers = ACCEPT | {"MCP-Protocol-Version": version, "Mcp-Method": "tools/call", "Mcp-Name": "ask"}

    async def leave(url: str, service: AgentService) -> tuple[int, int]:
        async with httpx.AsyncClient() as client:
            asking = asyncio.create_task(client.post(url, json=request(version), headers=headers, timeout=60))
            while not policies.unfinished:
                assert not asking.done(), asking.result().text
                await asyncio.sleep(0.01)
            before, _ = load_of(service)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(20):
            while policies.unfinished or load_of(service)[0]:
                await asyncio.sleep(0.01)
        return before, load_of(service)[1]

    with serve(agent_of(policies)) as (url, service):
        assert asyncio.run(leave(url, service)) == (1, 0)


def request(version: str) -> dict[str, Any]:
    """The raw call; since 2026-07-28 a request says itself who asks."""
    if version < "2026":
        return RAW
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return RAW | {"params": CALL | {"_meta": meta}}


def test_nobody_can_hold_a_stream_open_on_which_nothing_is_said(serve):
    with serve() as (url, _):
        assert httpx.get(url, headers=ACCEPT, timeout=20).status_code == 405


def test_too_many_hear_it(serve):
    limits = ServiceLimits(at_once=1, waiting=0)

    async def scenario(url: str) -> list[Any]:
        async with Client(url) as client:
            calls = [client.call_tool("ask", {"question": QUESTION}) for _ in range(3)]
            return await asyncio.gather(*calls)

    with serve(agent_of(FakePolicies(pause_s=0.01)), limits=limits) as (url, _):
        results = asyncio.run(scenario(url))
    refused = [result.content[0].text for result in results if result.is_error]
    assert len(refused) == 2 and all(text.endswith("try again later") and "overloaded: " in text for text in refused)
