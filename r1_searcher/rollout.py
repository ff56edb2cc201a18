"""The one episode loop: training, evaluation, demonstrations and benchmarks all call :func:`run_episode`.

It is written for a single episode.  Concurrency is asyncio's; batching of prompts belongs to the engine and of
queries to the retriever.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from r1_searcher.documents import PassageSanitizer, fit_documents
from r1_searcher.limits import Limits
from r1_searcher.parsing import Action, Answer, Invalid, Nothing, Search, Truncated, parse_action
from r1_searcher.policy import Finish, Policy
from r1_searcher.prompting import render_prompt
from r1_searcher.protocol import Protocol
from r1_searcher.question import QARow
from r1_searcher.tokenization import Tokenizer
from r1_searcher.trajectory import SearchRecord, SpanKind, StopReason, Trajectory, TrajectoryRecorder
from retriever.errors import RetrieverError
from retriever.interface import Retriever
from retriever.passage import Hit, Passage, SearchRequest


@dataclass(frozen=True)
class Environment:
    """What an episode takes place in; shared by all concurrent episodes, holds no episode's state."""

    protocol: Protocol
    limits: Limits
    retriever: Retriever
    tokenizer: Tokenizer

    @cached_property
    def sanitize(self) -> PassageSanitizer:
        """Makes retrieved text harmless; see :class:`PassageSanitizer`."""
        return PassageSanitizer({*self.protocol.tags, *self.tokenizer.special_texts})


async def run_episode(environment: Environment, row: QARow, policy: Policy) -> Trajectory:
    """Play one question to its end: (action, documents)* until an answer, a limit or a failure.

    A failing search service ends the episode as RETRIEVER_ERROR; every other exception is a bug and raises.
    """
    started = time.perf_counter()
    episode = _Episode(environment, TrajectoryRecorder(row))
    prompt = render_prompt(environment.protocol, row, environment.tokenizer)
    episode.record.append(SpanKind.PROMPT, environment.tokenizer.encode(prompt), prompt)
    reason, answer = None, None
    while reason is None:
        action = await episode.act(policy)
        reason, answer = await episode.respond(action)
    return episode.record.finish(reason, answer=answer, seconds=time.perf_counter() - started)


@dataclass
class _Episode:
    env: Environment
    record: TrajectoryRecorder
    searches: int = 0

    @property
    def budget(self) -> int:
        """Tokens left of the whole episode."""
        return self.env.limits.max_length - len(self.record.ids)

    async def act(self, policy: Policy) -> Action:
        """One turn of the policy, recorded."""
        max_tokens = min(self.env.limits.turn_tokens, self.budget)
        if max_tokens <= 0:
            return Truncated(None)
        protocol = self.env.protocol
        started = time.perf_counter()
        turn = await policy.generate(self.record.ids, stops=protocol.stops, max_tokens=max_tokens)
        self.record.engine_seconds += time.perf_counter() - started
        text = self._text(turn.ids, turn.finish)
        self.record.append(SpanKind.ACTION, turn.ids, text, turn.logprobs)
        return parse_action(protocol, text, turn.finish)

    def _text(self, ids: Sequence[int], finish: Finish) -> str:
        """Text of a turn, without the EOS that ended it."""
        ends_with_eos = finish is Finish.EOS and ids and ids[-1] in self.env.tokenizer.eos_ids
        return self.env.tokenizer.decode(ids[:-1] if ends_with_eos else ids)

    async def respond(self, action: Action) -> tuple[StopReason | None, str | None]:
        """The environment's move: (why the episode ends or None, its answer)."""
        match action:
            case Search(query):
                return await self._search(query), None
            case Answer(text):
                return StopReason.ANSWERED, text
            case Nothing():
                return StopReason.NO_ANSWER, None
            case Truncated(answer):
                return StopReason.LENGTH, answer
            case Invalid():
                return self._correct(), None

    def _correct(self) -> StopReason | None:
        feedback = self.env.protocol.feedback
        if feedback is None:
            return StopReason.INVALID_ACTION
        ids = self.env.tokenizer.encode(feedback)
        if len(ids) >= self.budget:
            return StopReason.LENGTH
        self.record.append(SpanKind.FEEDBACK, ids, feedback)
        return None

    async def _search(self, query: str) -> StopReason | None:
        limits = self.env.limits
        if self.searches >= limits.max_searches:
            return StopReason.SEARCH_LIMIT
        self.searches += 1
        request = SearchRequest(query=query, top_k=limits.top_k, context={"row": self.record.row})
        started = time.perf_counter()
        try:
            hits = await self.env.retriever.search(request)
        except RetrieverError as error:
            failure = f"{type(error).__name__}: {error}"
            self._note_search(query, (), (), time.perf_counter() - started, failure)
            return StopReason.RETRIEVER_ERROR
        seconds = time.perf_counter() - started
        tokenizer = self.env.tokenizer
        block = fit_documents(
            self.env.protocol,
            [hit.passage for hit in hits],
            self.budget - limits.answer_tokens,
            tokenizer.encode,
            self.env.sanitize,
        )
        self._note_search(query, tuple(hits), block.shown if block else (), seconds)
        if block is None:
            return StopReason.LENGTH
        self.record.append(SpanKind.DOCUMENTS, block.ids, block.text)
        return None

    def _note_search(
        self, query: str, hits: tuple[Hit, ...], shown: tuple[Passage, ...], seconds: float, error: str = ""
    ) -> None:
        self.record.searches.append(
            SearchRecord(
                query=query,
                passage_ids=tuple(hit.passage.id for hit in hits),
                shown_ids=tuple(passage.id for passage in shown),
                scores=tuple(round(float(hit.score), 6) for hit in hits),
                seconds=round(seconds, 6),
                error=error,
            )
        )
