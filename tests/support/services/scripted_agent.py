"""A service that speaks the page's contract and plays scripts instead of episodes: the real page, exact events.

Questions choose the script: those of `SCRIPTS` name theirs; any other question gets `EPISODE`. One that
begins with `slow` waits after each action until the test says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from r1_searcher.agent_service.html_page import html_page

Event = dict[str, Any]


def passage(number: int, title: str, text: str) -> Event:
    return {"id": f"p{number}", "title": title, "text": text}


def search(query: str, *passages: Event, error: str | None = None) -> Event:
    return {"query": query, "tool": "search", "error": error, "seconds": 0.02, "passages": list(passages)}


def end(answer: str | None, reason: str = "answered", searches: int = 1) -> Event:
    return {"type": "end", "answer": answer, "stop_reason": reason, "n_searches": searches, "seconds": 1.5}


TOWER = passage(1, "Eiffel Tower", "Maurice Koechlin drew the tower in 1884.")
LOUVRE = passage(2, "Louvre", "A museum in Paris.")
EPISODE: tuple[Event, ...] = (
    {"type": "queued", "position": 0},
    {"type": "prompt", "text": "Answer the question. Question: Who?"},
    {"type": "action", "text": "<think> I should "},
    {"type": "action", "text": "look. <search> tower designer </search>"},
    {"type": "search", "queries": ["tower designer"]},
    {"type": "documents", "searches": [search("tower designer", TOWER, LOUVRE)], "text": "(1) Eiffel Tower …"},
    {"type": "feedback", "text": "My previous action is invalid."},
    {"type": "action", "text": "So it was he. </think> <answer> Maurice Koechlin </answer>"},
    end("Maurice Koechlin"),
)
HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>\u202e DNE </details>"
ARABIC = "برج إيفل في باريس"
HOSTILE_EPISODE: tuple[Event, ...] = (
    {"type": "prompt", "text": HOSTILE},
    {"type": "action", "text": HOSTILE},
    {"type": "search", "queries": [HOSTILE, ARABIC]},
    {
        "type": "documents",
        "searches": [
            search(HOSTILE, {"id": HOSTILE, "title": HOSTILE, "text": HOSTILE}),
            search(ARABIC, error=HOSTILE),
        ],
        "text": HOSTILE,
    },
    {"type": "feedback", "text": HOSTILE},
    end(HOSTILE),
)
SCRIPTS: dict[str, tuple[Event, ...]] = {
    "hostile": HOSTILE_EPISODE,
    "dying retriever": (
        *EPISODE[:5],
        {"type": "documents", "searches": [search("tower designer", error="cannot connect to http://x")], "text": ""},
        {"type": "error", "message": "The search service failed: cannot connect to http://x"},
    ),
    "cut off": EPISODE[:4],
    "no answer": (*EPISODE[:4], end(None, "length", 0)),
}


@dataclass
class ScriptedAgent:
    """The service's state, as tests look at it."""

    models: tuple[str, ...] = ("trained", "base")
    token: str = ""
    released: bool = False
    """Whether questions that begin with `slow` go on after an action."""
    asked: list[Event] = field(default_factory=list)
    stored: dict[str, Event] = field(default_factory=dict)
    ratings: list[Event] = field(default_factory=list)
    open_streams: int = 0
    most_streams: int = 0

    def app(self) -> Starlette:
        routes = [
            Route("/", self.page),
            Route("/v1/models", self.list_models),
            Route("/episodes", self.play, methods=["POST"]),
            Route("/episodes/{id}", self.replay),
            Route("/ratings", self.rate, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def page(self, request: Request) -> Response:
        page = html_page()
        return Response(page.body, headers=dict(page.headers))

    async def list_models(self, request: Request) -> Response:
        refused = self._refused(request)
        return refused or JSONResponse({"object": "list", "data": [{"id": name} for name in self.models]})

    async def play(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        asked = await request.json()
        self.asked.append(asked)
        if asked["question"] == "too many":
            return JSONResponse({"error": {"message": "all places are taken; try again later"}}, 503)
        return StreamingResponse(self._events(f"e{len(self.asked)}", asked), media_type="text/event-stream")

    async def replay(self, request: Request) -> Response:
        stored = self.stored.get(request.path_params["id"])
        return JSONResponse(stored) if stored else JSONResponse({"error": {"message": "no such episode"}}, 404)

    async def rate(self, request: Request) -> Response:
        self.ratings.append(await request.json())
        return Response(status_code=204)

    def _refused(self, request: Request) -> Response | None:
        if not self.token or request.headers.get("authorization") == f"Bearer {self.token}":
            return None
        return JSONResponse({"error": {"message": "send this server's token"}}, 401)

    async def _events(self, number: str, asked: Event) -> AsyncIterator[str]:
        question, model = asked["question"], asked["model"] or self.models[0]
        played: list[Event] = []
        self.open_streams += 1
        self.most_streams = max(self.most_streams, self.open_streams)
        try:
            for event in SCRIPTS.get(question, EPISODE):
                if event["type"] == "end":
                    told = event["answer"] if model == "trained" or event["answer"] is None else f"{model} says so"
                    event = {**event, "id": number, "model": model, "answer": told}
                played.append(event)
                yield f"data: {json.dumps(event)}\n\n"
                if event["type"] == "action" and question.startswith("slow"):
                    await self._pause()
            self.stored[number] = {"id": number, "question": question, "model": model, "created": 0, "events": played}
        finally:
            self.open_streams -= 1

    async def _pause(self) -> None:
        while not self.released:
            await asyncio.sleep(0.01)
