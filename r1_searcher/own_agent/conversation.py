"""One conversation between an agent and the policy: messages in, sampled turns out, every id with its writer.

The record only grows. A request must repeat what was said so far and may add to it; the policy's turns in it stand for
the ids that were sampled, which are never encoded again. The same request once more (a client that lost the answer)
gets the same answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import copy_context

from foundation.files import parse_json
from r1_searcher.episode.parsing import MAX_QUERY_CHARS
from r1_searcher.episode.policy import Completion, Finish, Policy
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment
from r1_searcher.episode.searching import SearchReply, ask
from r1_searcher.episode.trajectory import SearchRecord, SpanKind, StopReason, Trajectory, TrajectoryRecorder
from r1_searcher.episode.watching import (
    DocumentsGiven,
    EpisodeEnded,
    Event,
    FeedbackGiven,
    PromptGiven,
    Searched,
    SearchStarted,
    Watch,
    WatchedTurn,
)
from r1_searcher.own_agent.history import History, Turn
from r1_searcher.own_agent.messages import ChatRequest, Message, Refused, ToolCall
from r1_searcher.own_agent.rendering import opening_text, text_between
from r1_searcher.own_agent.tool_calls import read_calls
from retriever.passage import Hits

FULL, SEARCH_LIMIT = "context_length_exceeded", "search_limit"
"""Codes of refusals that are limits of the episode: an agent that gives up over them has not failed."""
_MOST_PASSAGES = 100
_ENDS = {FULL: StopReason.LENGTH, SEARCH_LIMIT: StopReason.SEARCH_LIMIT}


class Conversation:
    """What one agent and the policy have said. Used by one event loop."""

    def __init__(
        self,
        environment: Environment,
        row: QARow,
        policy: Policy,
        progress: float = 0.0,
        watch: Watch | None = None,
    ) -> None:
        self.row = row
        self._watch = watch
        self._found: list[Searched] = []
        """Searches since the last turn, which whoever watches is told of with the text that they led to."""
        self._env = environment
        self._policy = policy
        self._progress = progress
        self._record = TrajectoryRecorder(row)
        self._started = time.perf_counter()
        self._history = History()
        self._watched = WatchedTurn(environment.tokenizer, watch)
        """The latest turn."""
        self._completion: Completion | None = None
        self._one_at_a_time = asyncio.Lock()
        self._context = copy_context()
        """Of every turn, whichever request asks for it: what samples them (an engine of several) can tell episodes."""
        self._sampling: asyncio.Task[Completion] | None = None
        self._sampling_since = 0.0
        self._searches_begun = 0
        self._searches_at_turn = 0
        self._limit = ""
        self.ended: asyncio.Future[StopReason] = asyncio.get_running_loop().create_future()
        """Set where the episode cannot go on: a search has failed (its reason), or there is a bug (its exception)."""
        self.closed = False

    async def complete(self, request: ChatRequest) -> Turn:
        """The policy's answer. Raises `Refused`."""
        async with self._one_at_a_time:
            self._check_open()
            if (answered := self._history.answer_to(request)) is not None:
                return answered
            self._limit = ""
            self._append(request)
            completion = await self._sample(request)
            self._completion = completion
            turn = self._turn_of(request, completion)
            self._history.add(request, turn)
            self._searches_at_turn = self._searches_begun
            return turn

    def _check_open(self) -> None:
        if self.closed or self.ended.done():
            raise Refused("conversation_over", "this episode is over", 410)

    def _append(self, request: ChatRequest) -> None:
        """Record what the request adds. Raises `Refused`, and records nothing then."""
        new = self._history.added(request)
        kind, text = self._rendered(request, new)
        ids = self._env.tokenizer.encode(text)
        if len(self._record.ids) + len(ids) >= self._env.limits.max_length:
            self._limit = FULL
            raise Refused(
                FULL,
                f"{len(self._record.ids)} tokens so far and {len(ids)} new ones leave no room for an answer in an "
                f"episode of {self._env.limits.max_length}",
            )
        self._note_tools_of_its_own(new)
        self._record.append(kind, ids, text)
        if kind is SpanKind.PROMPT:
            self._tell(PromptGiven(text))
        elif kind is SpanKind.FEEDBACK:
            self._tell(FeedbackGiven(text))
        else:
            self._tell(DocumentsGiven(tuple(self._found), text))
        self._found = []

    def _tell(self, event: Event) -> None:
        if self._watch is not None:
            self._watch(event)

    def _rendered(self, request: ChatRequest, new: Sequence[Message]) -> tuple[SpanKind, str]:
        protocol, tokenizer = self._env.protocol, self._env.tokenizer
        if self._completion is None:
            return SpanKind.PROMPT, opening_text(protocol, tokenizer, new, request.tools)
        eos = self._completion.finish is Finish.EOS
        text = text_between(protocol, tokenizer, self._history.messages, new, request.tools, ended_with_eos=eos)
        found = self._searched_since_turn or any(message.role == "tool" for message in new)
        return SpanKind.DOCUMENTS if found else SpanKind.FEEDBACK, text

    @property
    def _searched_since_turn(self) -> bool:
        return self._searches_begun > self._searches_at_turn

    def _note_tools_of_its_own(self, new: Sequence[Message]) -> None:
        """Record the calls that the agent has answered by itself, without the run's search."""
        if self._searched_since_turn:
            return
        answers = sum(message.role == "tool" for message in new)
        calls = self._history.calls[:answers]
        self._record.searches += [SearchRecord(_query(call), (), (), (), 0.0, tool=call.name) for call in calls]

    async def _sample(self, request: ChatRequest) -> Completion:
        limits = self._env.limits
        room = min(limits.turn_tokens, limits.max_length - len(self._record.ids))
        tokens = min(room, request.max_tokens or room)
        self._watched = WatchedTurn(self._env.tokenizer, self._watch)
        turn = self._watched.play(self._policy, self._record.ids, stops=request.stops, max_tokens=tokens)
        self._sampling_since = time.perf_counter()
        self._sampling = asyncio.create_task(turn, context=self._context)
        try:
            return await self._sampling
        except asyncio.CancelledError:
            if not self.closed:
                raise
            raise Refused("conversation_over", "this episode is over", 410) from None
        except Exception as error:
            self.fail(error)
            raise Refused("conversation_over", "the model has failed", 410) from error
        finally:
            self._sampling = None
            self._record.engine_seconds += time.perf_counter() - self._sampling_since

    @property
    def agent_seconds(self) -> float:
        """Time so far that the agent took, without what the model took."""
        now = time.perf_counter()
        sampling = now - self._sampling_since if self._sampling is not None else 0.0
        return now - self._started - self._record.engine_seconds - sampling

    def _turn_of(self, request: ChatRequest, completion: Completion) -> Turn:
        ids, before = completion.ids, len(self._record.ids)
        text = completion.text(self._env.tokenizer)
        self._record.append(SpanKind.ACTION, ids, text, completion.logprobs)
        self._watched.end(text)
        if completion.finish is Finish.STOP:
            places = (text.find(stop) for stop in request.stops)
            text = text[: min((place for place in places if place >= 0), default=len(text))]
        offered = [str(tool["function"]["name"]) for tool in request.tools] if request.reads_calls else []
        content, calls = read_calls(text, offered) if completion.finish is Finish.EOS else (text, ())
        reason = "length" if completion.finish is Finish.LENGTH else "tool_calls" if calls else "stop"
        return Turn(Message("assistant", content, calls), reason, before, len(ids))

    async def search(self, query: str, top_k: int | None = None) -> Hits:
        """Passages from the run's search service.

        Raises:
            Refused: the query is none, or the episode has no search left; also where the service has failed, which
                ends the episode: it is not trained on.
        """
        self._check_open()
        limits, query = self._env.limits, " ".join(query.split())
        if not query or len(query) > MAX_QUERY_CHARS:
            raise Refused("invalid_request", f"'query' must be text of 1 to {MAX_QUERY_CHARS} characters")
        if top_k is not None and (type(top_k) is not int or not 1 <= top_k <= _MOST_PASSAGES):
            raise Refused("invalid_request", f"'top_k' must be a whole number of 1 to {_MOST_PASSAGES}")
        if limits.max_searches is not None and self._searches_begun >= limits.max_searches:
            self._limit = SEARCH_LIMIT
            raise Refused(SEARCH_LIMIT, f"an episode may search {limits.max_searches} times")
        self._searches_begun += 1
        tool = self._history.calls[0].name if self._history.calls else ""
        self._tell(SearchStarted((query,), tool))
        try:
            reply = await ask(self._env.retriever, query, top_k or limits.top_k, self.row, self._progress)
        except Exception as error:
            self.fail(error)
            raise Refused("conversation_over", "the search has failed", 410) from error
        if reply.failure:
            self.fail_search(reply, tool)
            raise Refused("search_failed", "the search service has failed; the episode is over", 410)
        if not self.closed:
            self._record.searches.append(reply.record(reply.passages, tool))
            self._found.append(reply.seen(reply.passages, tool))
        return reply.hits

    def fail_search(self, reply: SearchReply, tool: str = "") -> None:
        """Note a search that an outside service has failed; the episode ends by it."""
        self._record.searches.append(reply.record((), tool))
        self._tell(DocumentsGiven((*self._found, reply.seen((), tool)), ""))
        if not self.ended.done():
            self.ended.set_result(StopReason.RETRIEVER_ERROR)

    def fail(self, error: Exception) -> None:
        """Note a bug, or a model that is gone: it is raised where the episode is played."""
        if not self.ended.done():
            self.ended.set_exception(error)

    def close(self) -> None:
        """Answer nothing any more; what is being sampled is given up."""
        self.closed = True
        if self._sampling is not None:
            self._sampling.cancel()

    def finish(self, answer: str | None) -> Trajectory:
        """The episode of an agent that has returned. A last turn that was cut off makes it one of LENGTH."""
        cut = self._completion is not None and self._completion.finish is Finish.LENGTH
        reason = StopReason.NO_ANSWER if answer is None else StopReason.ANSWERED
        return self._trajectory(StopReason.LENGTH if cut else reason, answer=answer)

    def give_up(self, error: str) -> Trajectory:
        """The episode of an agent that has not returned: of a limit that it ran into, or an error of its own."""
        reason = _ENDS.get(self._limit)
        return self._trajectory(reason) if reason else self._trajectory(StopReason.AGENT_ERROR, error=error)

    def of_failed_search(self) -> Trajectory:
        """The episode of which a search has failed."""
        return self._trajectory(StopReason.RETRIEVER_ERROR)

    def _trajectory(self, reason: StopReason, *, answer: str | None = None, error: str = "") -> Trajectory:
        if not self._record.ids:  # the policy was never asked; the trainer takes no sequence without a token
            prompt = render_prompt(self._env.protocol, self.row, self._env.tokenizer)
            self._record.append(SpanKind.PROMPT, self._env.tokenizer.encode(prompt), prompt)
        seconds = time.perf_counter() - self._started
        trajectory = self._record.finish(reason, answer=answer, seconds=seconds, error=error)
        self._tell(EpisodeEnded(trajectory))
        return trajectory


def _query(call: ToolCall) -> str:
    """What a call asks for, as text: its strings, or its JSON where it has none."""
    try:
        found = parse_json(call.arguments)
    except ValueError:
        return call.arguments
    values = list(found.values()) if isinstance(found, dict) else [found]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return " ".join(text for text in flat if isinstance(text, str)) or call.arguments
