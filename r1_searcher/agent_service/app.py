"""The paths of the service: OpenAI's, those of its page, and what watches over it.

On Starlette and uvicorn, which vLLM brings, and not on the WSGI host of the other servers: an episode is a coroutine
that lasts for seconds to minutes, reports what happens meanwhile, and must end when its client goes, which WSGI
notices only when it writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundation.json_lines import encoded
from foundation.web_server import Access
from r1_searcher.agent_service import completions
from r1_searcher.agent_service.answers import EventStream, HungUp, Tell, event, unless_hung_up
from r1_searcher.agent_service.api_error import ApiError
from r1_searcher.agent_service.event_json import end_json, event_json
from r1_searcher.agent_service.html_page import html_page
from r1_searcher.agent_service.mcp_tool import PATH, McpTool
from r1_searcher.agent_service.requests import Body, CompletionRequest, EpisodeRequest, Rating, read
from r1_searcher.agent_service.service import Admitted, AgentService
from r1_searcher.episode.watching import Event

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
_BODY_S = 30.0
"""Time in which a body must have come."""
_OPEN = ("/", "/health")
"""Answered without a token: the page asks for it, and health is no secret."""


def create_app(
    service: AgentService,
    *,
    token: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    host: str = "127.0.0.1",
) -> ASGIApp:
    """The ASGI app of a service.

    Args:
        service: what answers.
        token: then every request but those for the page and for health must carry `Authorization: Bearer <token>`.
        max_body_bytes: of one request's body.
        host: where it listens.

    Raises:
        ValueError: a token that no header can carry.
    """
    paths, tool = _Paths(service, max_body_bytes), McpTool(service, host=host, max_body_bytes=max_body_bytes)
    routes = [
        Route("/", paths.page),
        Route("/health", paths.health),
        Route("/metrics", paths.metrics),
        Route("/v1/models", paths.models),
        Route("/v1/chat/completions", paths.chat, methods=["POST"]),
        Route("/episodes", paths.episode, methods=["POST"]),
        Route("/episodes/{name}", paths.stored),
        Route("/ratings", paths.rate, methods=["POST"]),
    ]
    handlers = {ApiError: _refused, HTTPException: _no_such_path, HungUp: _nobody, Exception: _bug}
    app = Starlette(routes=[*routes, *tool.routes], exception_handlers=handlers, lifespan=tool.lifespan)
    app.router.redirect_slashes = False
    return _Front(app, service, Access(token), {PATH, *(route.path for route in routes)})


class _Paths:
    """What answers each path."""

    def __init__(self, service: AgentService, max_body_bytes: int) -> None:
        self._service = service
        self._max_body_bytes = max_body_bytes

    async def page(self, request: Request) -> Response:
        page = html_page()
        return Response(page.body, headers=page.headers)

    async def health(self, request: Request) -> Response:
        status = "stopping" if self._service.stopping else "ready"
        return JSONResponse({"status": status, "models": list(self._service.agents)}, 200 if status == "ready" else 503)

    async def metrics(self, request: Request) -> Response:
        metrics = self._service.metrics
        return Response(metrics.render(), headers={"Content-Type": metrics.content_type})

    async def models(self, request: Request) -> Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "r1_searcher", "recipe": agent.recipe.name}
            for name, agent in self._service.agents.items()
        ]
        return JSONResponse({"object": "list", "data": rows})

    async def chat(self, request: Request) -> Response | EventStream:
        body = await self._body(request, CompletionRequest)
        body.check()
        asked = self._service.ask(
            body.question, body.model, temperature=body.temperature, top_p=body.top_p, seed=body.seed
        )
        if body.stream:
            wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            return EventStream(lambda tell: self._stream_chat(asked, wants_usage, tell), asked.place.leave)
        writer = completions.ChatWriter(asked)
        try:
            trajectory = await unless_hung_up(request, self._service.answer(asked, writer))
        finally:
            asked.place.leave()
        return _json(writer.completion(trajectory))

    async def _stream_chat(self, asked: Admitted, wants_usage: bool, tell: Tell) -> None:
        def piece(delta: Mapping[str, Any]) -> None:
            tell(event(completions.chunk(asked, delta)))

        piece({"role": "assistant", "content": ""})
        try:
            trajectory = await self._service.answer(asked, completions.ChatWriter(asked, piece))
        except ApiError as error:
            tell(event(error.body))
            return
        tell(event(completions.chunk(asked, {}, completions.finish_reason(trajectory))))
        if wants_usage:
            tell(event(completions.usage_chunk(asked, trajectory)))
        tell(b"data: [DONE]\n\n")

    async def episode(self, request: Request) -> EventStream:
        body = await self._body(request, EpisodeRequest)
        positions: list[int] = []
        listeners: list[Tell] = []

        def moved(position: int) -> None:
            positions.append(position)
            for tell in listeners:
                tell(event({"type": "queued", "position": position}))

        asked = self._service.ask(body.question, body.model, temperature=body.temperature, seed=body.seed, moved=moved)

        async def produce(tell: Tell) -> None:
            listeners.append(tell)
            for position in positions[-1:]:
                tell(event({"type": "queued", "position": position}))
            await self._stream_episode(asked, tell)

        return EventStream(produce, asked.place.leave)

    async def _stream_episode(self, asked: Admitted, tell: Tell) -> None:
        def watch(happened: Event) -> None:
            if (value := event_json(happened)) is not None:
                tell(event(value))

        try:
            trajectory = await self._service.play(asked, watch)
        except ApiError as error:
            tell(event({"type": "error", "message": str(error), "code": error.code}))
            return
        tell(event(end_json(trajectory, asked.name, asked.model)))

    async def stored(self, request: Request) -> Response:
        return _json(await asyncio.to_thread(self._service.store.get, request.path_params["name"]))

    async def rate(self, request: Request) -> Response:
        body = await self._body(request, Rating)
        await asyncio.to_thread(self._service.store.rate, body.id, body.thumb, body.comment)
        return Response(status_code=204)

    async def _body(self, request: Request, kind: type[Body]) -> Body:
        """A request's body. Raises `ApiError` where it is none of this kind, too large or too slow."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # What a page of another origin may send without being asked about has another type.
            raise ApiError(415, "unsupported_media_type", "send the body as Content-Type: application/json")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_S):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._max_body_bytes:
                        raise ApiError(413, "too_large", f"the body may have at most {self._max_body_bytes} bytes")
        except TimeoutError as error:
            raise ApiError(408, "too_slow", f"the body did not come within {_BODY_S:g} s") from error
        return read(bytes(body), kind)


class _Front:
    """Around the app: who may ask, and what is counted."""

    def __init__(self, app: ASGIApp, service: AgentService, access: Access, paths: set[str]) -> None:
        self._app, self._service, self._access = app, service, access
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            answer = self._app if self._may(scope) else _answer(_unauthorized())
            await answer(scope, receive, counted)
        except Exception:  # a bug, which the app has answered already
            logger.exception("%s %s failed", scope["method"], scope["path"])
        finally:
            self._service.metrics.request(self._shown(scope["path"]), status)

    def _may(self, scope: Scope) -> bool:
        if scope["path"] in _OPEN:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return self._access.allows(scope["path"], given.decode("latin-1"))

    def _shown(self, path: str) -> str:
        if path.startswith("/episodes/"):
            return "/episodes/{name}"
        return path if path in self._paths else "other"


def _json(value: Mapping[str, Any]) -> Response:
    return Response(encoded(value), media_type="application/json")


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status, error.headers)


def _unauthorized() -> ApiError:
    return ApiError(401, "invalid_token", "send the header 'Authorization: Bearer <token>' with this service's token")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # as nginx counts it: nobody is there to be answered


async def _bug(request: Request, error: Exception) -> Response:
    return _answer(ApiError(500, "internal_error", f"the service failed with {type(error).__name__}, see its log"))


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _answer(ApiError(error.status_code, "not_found", f"{request.method} {request.url.path}: {error.detail}"))
    answer.headers.update(error.headers or {})
    return answer
