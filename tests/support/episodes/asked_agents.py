"""Agents whose model and search are scripted, and calls of the service without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1_searcher.agent_service.service import AgentService
from r1_searcher.episode.policy import Completion
from r1_searcher.episode.rollout import Environment
from r1_searcher.inference.agent import Agent
from r1_searcher.inference.decoding import Decoding
from r1_searcher.recipe.recipe import Recipe, find_recipe
from support.episodes.fakes import ROOMY, FakeRetriever, Result, ScriptedPolicy, Turn, ask, passages, say, tag_tokenizer

RECIPE = find_recipe("tiny.stage2")
FOUND = passages("is in Paris", "is in France")
CHAT = "/v1/chat/completions"
SAID = {"messages": [{"role": "user", "content": "Where is the tower?"}]}
Use = Callable[[Any, AgentService], Coroutine[Any, Any, Any]]


@dataclass
class StreamedPolicy(ScriptedPolicy):
    """Tells a turn's ids in pieces of these sizes, and keeps the last piece for the end."""

    sizes: Sequence[int] = (1,)
    pause_s: float = 0.0
    """Before each piece."""

    async def stream(
        self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int, told: Callable[[Sequence[int]], None]
    ) -> Completion:
        completion = await self.generate(ids, stops=stops, max_tokens=max_tokens)
        rest, turn = list(completion.ids), 0
        while len(rest) > (size := self.sizes[turn % len(self.sizes)]):
            await asyncio.sleep(self.pause_s)
            told(rest[:size])
            rest, turn = rest[size:], turn + 1
        return completion


def load_of(service: AgentService) -> tuple[float, float]:
    """Episodes that are played and requests that wait, as `/metrics` says."""
    told = dict(line.rsplit(" ", 1) for line in service.metrics.render().decode().splitlines())
    return float(told["agent_running_episodes"]), float(told["agent_waiting_requests"])


@dataclass
class FakePolicies:
    """Plays the same turns in every episode."""

    turns: Sequence[str | Turn] = (ask("tower", "Hm. "), say("Paris", "I see. "))
    pause_s: float = 0.0
    sizes: Sequence[int] = (1,)
    decodings: list[Decoding] = field(default_factory=list)
    unfinished: int = 0
    """Turns that are being sampled."""

    def policy(self, decoding: Decoding) -> Counted:
        self.decodings.append(decoding)
        return Counted(StreamedPolicy(tag_tokenizer(), self.turns, sizes=self.sizes, pause_s=self.pause_s), self)


@dataclass
class Counted:
    """A policy whose turns are counted while they last."""

    policy: StreamedPolicy
    of: FakePolicies

    async def generate(self, ids: Sequence[int], **options: Any) -> Completion:
        return await self._counted(self.policy.generate(ids, **options))

    async def stream(self, ids: Sequence[int], **options: Any) -> Completion:
        return await self._counted(self.policy.stream(ids, **options))

    async def _counted(self, turn: Any) -> Completion:
        self.of.unfinished += 1
        try:
            return await turn
        finally:
            self.of.unfinished -= 1


def agent_of(policies: FakePolicies | None = None, *results: Result, recipe: Recipe = RECIPE) -> Agent:
    """An agent with these policies, whose searches find `results`."""
    retriever = FakeRetriever(results or (FOUND,))
    environment = Environment(recipe.protocol, ROOMY, retriever, tag_tokenizer())
    return Agent(recipe, policies or FakePolicies(), environment)


@dataclass(frozen=True)
class Reply:
    """An answered request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """What the server-sent events carry; `[DONE]` as it is."""
        data = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [each if each == "[DONE]" else json.loads(each) for each in data]


async def call(
    app: Any,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    hangs_up: asyncio.Event | None = None,
) -> Reply:
    """One request to an ASGI app; an object is sent as JSON. With `hangs_up`, the client goes when it is set."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    requests = [{"type": "http.request", "body": raw, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await (hangs_up or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status = sent[0]["status"] if sent else 0
    shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]} if sent else {}
    return Reply(status, shown, b"".join(message.get("body", b"") for message in sent[1:]))


def one(method: str, path: str, body: Any = None, **options: Any) -> Use:
    """A use of the service that is one request."""
    return lambda app, service: call(app, method, path, body, **options)
