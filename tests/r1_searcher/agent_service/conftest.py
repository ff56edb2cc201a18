"""The app of the service in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.episodes.asked_agents import Use, agent_of
from support.services.asgi_servers import serve_asgi
from support.services.browser import browser
from support.services.scripted_agent import ScriptedAgent

from r1_searcher.agent_service.app import create_app
from r1_searcher.agent_service.service import AgentService, ServiceLimits
from r1_searcher.agent_service.store import EpisodeStore
from r1_searcher.inference.agent import Agent


@pytest.fixture
def service_of(tmp_path: Path) -> Callable[..., Any]:
    """Opens the service of these agents, `model1` and so on, which keeps three episodes."""

    @contextmanager
    def opened(*agents: Agent, limits: ServiceLimits | None = None) -> Iterator[AgentService]:
        named = {f"model{number}": agent for number, agent in enumerate(agents or (agent_of(),), start=1)}
        with closing(EpisodeStore(tmp_path / "store", keep=3)) as store:
            yield AgentService(named, store, limits)

    return opened


@pytest.fixture
def serve(service_of) -> Callable[..., Any]:
    """Runs a coroutine that uses the app of these agents."""

    def run(use: Use, *agents: Agent, limits: ServiceLimits | None = None, **options: Any) -> Any:
        async def within() -> Any:
            with service_of(*agents, limits=limits) as service:
                return await use(create_app(service, **options), service)

        return asyncio.run(within())

    return run


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def url(agent) -> Iterator[str]:
    with serve_asgi(agent.app()) as address:
        yield address
