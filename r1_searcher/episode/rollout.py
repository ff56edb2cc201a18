"""The one episode loop: training, evaluation, demonstrations and benchmarks all call `run_episode`.

It is written for a single episode. Concurrency is asyncio's; batching of prompts belongs to the engine and of
queries to the retriever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from r1_searcher.episode.documents import DocumentWriter, Found, PassageSanitizer
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.parsing import Action, Answer, Invalid, Nothing, Search, Truncated, parse_action
from r1_searcher.episode.policy import Policy
from r1_searcher.episode.prompting import documents_frame, render_prompt
from r1_searcher.episode.protocol import Protocol, Tool
from r1_searcher.episode.question import QARow
from r1_searcher.episode.searching import SearchReply, ask
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory, TrajectoryRecorder
from r1_searcher.episode.watching import (
    DocumentsGiven,
    EpisodeEnded,
    Event,
    FeedbackGiven,
    PromptGiven,
    SearchStarted,
    Watch,
    WatchedTurn,
)
from retriever.interface import Retriever


@dataclass(frozen=True)
class Environment:
    """The surroundings of an episode; shared by all concurrent episodes, without any episode's state."""

    protocol: Protocol
    limits: Limits
    retriever: Retriever
    tokenizer: Tokenizer
    tools: Mapping[str, Retriever] = field(default_factory=dict)
    """Further retrievers that the protocol's tools name, such as `browse`; `search` is `retriever`."""

    @cached_property
    def documents(self) -> DocumentWriter:
        """Writes the environment's turns; retrieved text is made harmless, see `PassageSanitizer`."""
        sanitize = PassageSanitizer({*self.protocol.tags, *self.tokenizer.special_texts})
        frame = documents_frame(self.protocol, self.tokenizer)
        return DocumentWriter(self.protocol, frame, self.tokenizer.encode, sanitize)

    def retriever_of(self, tool: Tool | None) -> Retriever:
        """The retriever that answers a tool. Raises `ValueError` where the environment has none."""
        if tool is None or tool.retriever == "search":
            return self.retriever
        if tool.retriever not in self.tools:
            raise ValueError(f"{self.protocol.name} needs a retriever {tool.retriever!r}; found {sorted(self.tools)}")
        return self.tools[tool.retriever]


async def run_episode(
    environment: Environment, row: QARow, policy: Policy, *, progress: float = 0.0, watch: Watch | None = None
) -> Trajectory:
    """Play one question to its end: (action, documents)* until an answer, a limit or a failure.

    A failing search service ends the episode as RETRIEVER_ERROR; every other exception is a bug and raises.

    Args:
        progress: how far the training is, 0..1; simulated search engines with a curriculum look at it.
        watch: is told of everything as it happens; the episode is the same without it.
    """
    started = time.perf_counter()
    episode = _Episode(environment, TrajectoryRecorder(row), progress, watch)
    prompt = render_prompt(environment.protocol, row, environment.tokenizer)
    episode.record.append(SpanKind.PROMPT, environment.tokenizer.encode(prompt), prompt)
    episode.tell(PromptGiven(prompt))
    reason, answer = None, None
    while reason is None:
        action = await episode.act(policy)
        reason, answer = await episode.respond(action)
    trajectory = episode.record.finish(reason, answer=answer, seconds=time.perf_counter() - started)
    episode.tell(EpisodeEnded(trajectory))
    return trajectory


@dataclass
class _Episode:
    env: Environment
    record: TrajectoryRecorder
    progress: float
    watch: Watch | None
    moves: int = 0
    """Moves of the environment so far: searches and corrections."""

    @property
    def budget(self) -> int:
        """Tokens left of the whole episode."""
        return self.env.limits.max_length - len(self.record.ids)

    def tell(self, event: Event) -> None:
        """Notify the watcher."""
        if self.watch is not None:
            self.watch(event)

    async def act(self, policy: Policy) -> Action:
        """One turn of the policy, recorded."""
        max_tokens = min(self.env.limits.turn_tokens, self.budget)
        if max_tokens <= 0:
            return Truncated(None)
        protocol = self.env.protocol
        watched = WatchedTurn(self.env.tokenizer, self.watch)
        started = time.perf_counter()
        turn = await watched.play(policy, self.record.ids, stops=protocol.stops, max_tokens=max_tokens)
        self.record.engine_seconds += time.perf_counter() - started
        text = turn.text(self.env.tokenizer)
        self.record.append(SpanKind.ACTION, turn.ids, text, turn.logprobs)
        watched.end(text)
        return parse_action(protocol, text, turn.finish)

    async def respond(self, action: Action) -> tuple[StopReason | None, str | None]:
        """The environment's move: (why the episode ends or None, its answer)."""
        match action:
            case Search():
                return await self._search(action), None
            case Answer(text):
                return StopReason.ANSWERED, text
            case Truncated(str(answer)):
                return StopReason.LENGTH, answer
            case Truncated():
                return self._correct(StopReason.LENGTH), None
            case Nothing():
                return self._correct(StopReason.NO_ANSWER), None
            case Invalid():
                return self._correct(StopReason.INVALID_ACTION), None

    def _correct(self, otherwise: StopReason) -> StopReason | None:
        """Insert the protocol's correction; without one, or without room for one, the episode ends."""
        protocol, feedback = self.env.protocol, self.env.protocol.feedback
        if not protocol.forgiving or (not feedback and otherwise is not StopReason.INVALID_ACTION):
            return otherwise
        ids = self.env.tokenizer.encode(feedback) if feedback else []
        if len(ids) >= self.budget:
            return StopReason.LENGTH
        if self._move_is_refused():
            return otherwise
        if ids:
            self.record.append(SpanKind.FEEDBACK, ids, feedback)
            self.tell(FeedbackGiven(feedback))
        return None

    def _move_is_refused(self) -> bool:
        """Count a move of the environment; whether it is one too many."""
        most = self.env.limits.max_searches
        if most is not None and self.moves >= most:
            return True
        self.moves += 1
        return False

    async def _search(self, action: Search) -> StopReason | None:
        if self._move_is_refused():
            return StopReason.SEARCH_LIMIT
        tool = action.tool.name if action.tool else ""
        self.tell(SearchStarted(action.queries, tool))
        replies = await self._ask_all(action)
        failed = any(reply.failure for reply in replies)
        results = [Found(reply.query, reply.passages, action.tool) for reply in replies]
        block = None if failed else self.env.documents.fit(results, self._room_for_documents)
        shown = block.results if block else [replace(found, passages=()) for found in results]
        pairs = [(reply, found.passages) for reply, found in zip(replies, shown, strict=True)]
        self.record.searches += [reply.record(passages, tool) for reply, passages in pairs]
        seen = [reply.seen(passages, tool) for reply, passages in pairs]
        self.tell(DocumentsGiven(tuple(seen), block.text if block else ""))
        if block is None:
            return StopReason.RETRIEVER_ERROR if failed else StopReason.LENGTH
        self.record.append(SpanKind.DOCUMENTS, block.ids, block.text)
        return None

    @property
    def _room_for_documents(self) -> int:
        limits = self.env.limits
        room = self.budget - limits.answer_tokens
        return room if limits.document_tokens is None else min(room, limits.document_tokens)

    async def _ask_all(self, action: Search) -> Sequence[SearchReply]:
        retriever, row = self.env.retriever_of(action.tool), self.record.row
        asked = [ask(retriever, query, self.env.limits.top_k, row, self.progress) for query in action.queries]
        return [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
