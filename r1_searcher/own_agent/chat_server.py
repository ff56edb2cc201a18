"""The server that agents talk to: HTTP on the loopback address, in the event loop of the episodes.

A conversation has an address of its own (`/c/ID/v1`) and a key of its own, which only its agent is given. The only file
of the package that knows the web server, aiohttp.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from foundation.files import parse_json
from foundation.http import trusted_certificates
from foundation.loops import PerLoop
from foundation.web_server import MAX_BODY_BYTES
from r1_searcher.own_agent import replies
from r1_searcher.own_agent.conversation import Conversation
from r1_searcher.own_agent.messages import ChatRequest, Refused, clean
from retriever.passage import Passage

HOST = "127.0.0.1"


@dataclass(frozen=True)
class ClientSettings:
    """What an agent needs to speak with the policy, and to search, in one episode."""

    base_url: str
    """Of an OpenAI client."""
    api_key: str = field(repr=False)
    search_url: str
    """`POST {"query": …}` with the key as a bearer token gives `{"passages": [{"id", "title", "text"}, …]}`."""
    model: str = replies.MODEL
    _conversation: Conversation | None = field(default=None, repr=False, compare=False)
    _connections: Any = field(default=None, repr=False, compare=False)

    def openai(self) -> Any:
        """An `openai.AsyncOpenAI` for this episode; all of them share their connections."""
        import openai

        return openai.AsyncOpenAI(base_url=self.base_url, api_key=self.api_key, http_client=self._connections)

    async def search(self, query: str, top_k: int | None = None) -> list[Passage]:
        """Passages from the run's search service, best first; the search is recorded with the episode.

        Raises:
            Refused: the episode has no search left, or `query` is none. Left alone, the first ends the episode as one
                at its search limit.
        """
        assert self._conversation is not None
        return [hit.passage for hit in await self._conversation.search(query, top_k)]


class ChatServer:
    """Serves the conversations that are open."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Conversation, str]] = {}
        self._runner: Any = None
        self._root = ""
        self._connections = PerLoop(_connections)

    async def start(self) -> None:
        """Listen on a free port."""
        from aiohttp import web

        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/c/{id}/v1/chat/completions", self._answering(self._complete))
        app.router.add_post("/c/{id}/search", self._answering(self._search))
        app.router.add_get("/c/{id}/v1/models", self._answering(self._models))
        app.router.add_route("*", "/{path:.*}", self._answering(self._nothing))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0, backlog=1024)
        await site.start()
        self._root = f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Listen no more."""
        for conversation, _ in self._open.values():
            conversation.close()
        if (connections := self._connections.pop()) is not None:
            await connections.aclose()
        await self._runner.cleanup()

    @contextlib.contextmanager
    def open(self, conversation: Conversation) -> Any:
        """Serve a conversation while the context lasts; gives the agent's settings."""
        identity, key = secrets.token_hex(8), secrets.token_urlsafe(24)
        self._open[identity] = (conversation, key)
        address = f"{self._root}/c/{identity}"
        try:
            yield ClientSettings(
                f"{address}/v1", key, f"{address}/search", replies.MODEL, conversation, self._connections.get()
            )
        finally:
            del self._open[identity]
            conversation.close()

    def _answering(self, answer: Callable[[Any, Conversation], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """A handler that asks for the key first, and tells refusals in OpenAI's form."""
        from aiohttp import web

        async def handle(request: Any) -> Any:
            conversation = None
            try:
                conversation = self._conversation_of(request)
                return await answer(request, conversation)
            except Refused as refused:
                return web.json_response(replies.error(refused), status=refused.status)
            except web.HTTPRequestEntityTooLarge:
                large = Refused("too_large", f"the body may have at most {MAX_BODY_BYTES} bytes", 413)
                return web.json_response(replies.error(large), status=large.status)
            except OSError:  # the client has gone
                raise
            except Exception as error:
                if conversation is not None:
                    conversation.fail(error)
                raise

        return handle

    def _conversation_of(self, request: Any) -> Conversation:
        found = self._open.get(request.match_info.get("id", ""))
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        conversation, key = found if found is not None else (None, secrets.token_urlsafe())
        if not hmac.compare_digest(given, f"Bearer {key}".encode()) or conversation is None:
            raise Refused("no_conversation", "no open conversation has this address and this key", 401)
        return conversation

    async def _complete(self, request: Any, conversation: Conversation) -> Any:
        from aiohttp import web

        asked = ChatRequest.parse(await _body(request))
        turn = await conversation.complete(asked)
        if not asked.streams:
            return web.json_response(replies.completion(turn))
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for event in replies.events(turn, shows_usage=asked.shows_usage):
            await response.write(event)
        await response.write_eof()
        return response

    async def _search(self, request: Any, conversation: Conversation) -> Any:
        from aiohttp import web

        body = await _body(request)
        if not isinstance(body, dict):
            raise Refused("invalid_request", "expected an object with 'query'")
        hits = await conversation.search(clean(body.get("query"), "query"), body.get("top_k"))
        found = [hit.passage for hit in hits]
        return web.json_response({"passages": [{"id": p.id, "title": p.title, "text": p.text} for p in found]})

    async def _models(self, request: Any, conversation: Conversation) -> Any:
        from aiohttp import web

        return web.json_response(replies.models())

    async def _nothing(self, request: Any, conversation: Conversation) -> Any:
        raise Refused("no_such_path", f"there is no {request.method} {request.path} here", 404)


async def _body(request: Any) -> Any:
    try:
        return parse_json(await request.read())
    except ValueError as error:
        raise Refused("invalid_request", f"the body must be JSON: {error}") from error


def _connections() -> Any:
    """The library's connections, past any proxy: the server is on this machine."""
    import openai
    from httpx2 import AsyncHTTPTransport, Limits

    limits = Limits(max_connections=None, max_keepalive_connections=100)
    return openai.DefaultAsyncHttpxClient(transport=AsyncHTTPTransport(verify=trusted_certificates(), limits=limits))
