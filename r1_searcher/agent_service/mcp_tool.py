"""The searching agent as a tool of other agents: the service's `/mcp`, which speaks the Model Context Protocol (MCP).

One tool, `ask`: a question in, the answer with its sources out. Each search is reported as progress meanwhile,
and a caller that hangs up ends it, as on every other path. Not here: our search as tools (`retriever.mcp`).
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from r1_searcher.agent_service.api_error import ApiError
from r1_searcher.agent_service.completions import ChatWriter
from r1_searcher.agent_service.service import Admitted, AgentService
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.episode.watching import Event, SearchStarted

PATH = "/mcp"
MAX_QUESTION_CHARS = 8192
INSTRUCTIONS = "ask gives one question to a model that searches by itself, and returns its answer with its sources."


@dataclass(frozen=True)
class CitedPassage:
    """A passage that the model has read."""

    id: str
    title: str
    text: str
    query: str
    """The first that found it."""


@dataclass(frozen=True)
class ToolAnswer:
    """What the tool returns."""

    answer: str
    """Empty where the model gave none."""
    stop_reason: str
    searches: int
    sources: list[CitedPassage]
    model: str
    id: str
    """Of the episode, which the service keeps at `/episodes/{id}`."""


class McpTool:
    """The tool of one service, over HTTP without sessions: a restarted service has forgotten nothing."""

    def __init__(self, service: AgentService, *, host: str, max_body_bytes: int) -> None:
        """`host`: where the service listens; on this machine only, no page of another site may ask."""
        self._service = service
        self._server = MCPServer("r1-searcher", instructions=INSTRUCTIONS, log_level="WARNING")
        reads = ToolAnnotations(read_only_hint=True)
        self._server.tool(description="Answer a question by searching.", annotations=reads)(self.ask)
        app = self._server.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, host=host, max_request_body_size=max_body_bytes
        )
        (route,) = app.routes
        assert isinstance(route, Route)
        # Only what asks: a GET would hold a stream open on which nothing is ever said.
        self.routes: list[BaseRoute] = [Route(PATH, route.endpoint, methods=["POST"])]

    def lifespan(self, app: Starlette) -> AbstractAsyncContextManager[None]:
        """For as long as the routes are served."""
        return self._server.session_manager.run()

    async def ask(
        self,
        question: Annotated[str, Field(max_length=MAX_QUESTION_CHARS, description="A question that stands alone.")],
        ctx: Context,
        model: Annotated[str | None, Field(description="Which of the service's models; default: the first.")] = None,
    ) -> ToolAnswer:
        """The tool. Raises `ToolError` with the code and message of the service's own error."""
        try:
            return await self._play(self._service.ask(question, model), ctx)
        except ApiError as error:
            raise ToolError(f"{error.code}: {error}") from error

    async def _play(self, asked: Admitted, ctx: Context) -> ToolAnswer:
        writer = ChatWriter(asked)
        telling: list[asyncio.Task[None]] = []

        def watch(event: Event) -> None:
            writer(event)
            if isinstance(event, SearchStarted):
                said = f"searching: {'; '.join(event.queries)}"
                telling.append(asyncio.create_task(ctx.report_progress(len(telling) + 1, message=said)))

        try:
            trajectory = await self._service.answer(asked, watch)
        finally:
            await asyncio.gather(*telling, return_exceptions=True)  # a caller need not listen
        return _answer(asked, trajectory, writer)


def _answer(asked: Admitted, trajectory: Trajectory, writer: ChatWriter) -> ToolAnswer:
    sources = [CitedPassage(**source["passage"], query=source["query"]) for source in writer.annotations]
    stop, searches = trajectory.stop_reason.value, len(trajectory.searches)
    return ToolAnswer(trajectory.answer or "", stop, searches, sources, asked.model, asked.name)
