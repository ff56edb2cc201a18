"""A request becomes one episode: admitted, played, watched, counted and kept."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foundation.errors import InputError, RunAborted
from r1_searcher.agent_service.api_error import ApiError, unavailable, wrong
from r1_searcher.agent_service.event_json import end_json, stored_json
from r1_searcher.agent_service.metrics import AgentMetrics
from r1_searcher.agent_service.store import EpisodeStore
from r1_searcher.agent_service.turnstile import Full, Place, Turnstile
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.episode.watching import Event, Watch
from r1_searcher.inference.agent import Agent
from r1_searcher.inference.decoding import Decoding

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceLimits:
    """How much is done at once, and for how long."""

    at_once: int = 64
    """Episodes that are played at the same time."""
    waiting: int = 256
    """Requests that may wait for that; one more is refused."""
    episode_s: float = 300.0
    """Seconds of an episode, without its wait."""
    drain_s: float = 20.0
    """Seconds that episodes get to finish when the service stops."""


@dataclass(frozen=True)
class Admitted:
    """A request that can be played, with its place in the line."""

    name: str
    """Of the episode; nobody can guess it."""
    model: str
    agent: Agent
    row: QARow
    decoding: Decoding
    place: Place
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""


class AgentService:
    """The agents by the names of their models; the first is asked where a request names none."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        store: EpisodeStore,
        limits: ServiceLimits | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        """`decoding` holds for what a request leaves open; default greedy."""
        self.agents = dict(agents)
        self.store = store
        self.limits = limits or ServiceLimits()
        self.metrics = AgentMetrics()
        self.stopping = False
        self._decoding = decoding or Decoding()
        self._turnstile = Turnstile(self.limits.at_once, self.limits.waiting)
        self._clocks: set[asyncio.Timeout] = set()
        self.metrics.watch("agent_running_episodes", "Episodes being played", lambda: self._turnstile.running)
        self.metrics.watch("agent_waiting_requests", "Requests in line", lambda: self._turnstile.waiting)
        for name, agent in self.agents.items():
            unfinished = self._unfinished_of(agent)
            self.metrics.watch("agent_engine_requests", "Requests in the engine", unfinished, model=name)

    @staticmethod
    def _unfinished_of(agent: Agent) -> Callable[[], float]:
        return lambda: agent.policies.unfinished

    def ask(
        self,
        question: str,
        model: str | None,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        moved: Callable[[int], None] = lambda position: None,
    ) -> Admitted:
        """Check a request and give it a place; whoever has it must `play` it or leave its place.

        Args:
            question: as it was asked.
            model: one of `agents`; None is the first.
            temperature, top_p, seed: None takes the service's own.
            moved: is told the request's place in the line, from 1.

        Raises:
            ApiError: no such model, no question, too many requests, or the service is stopping.
        """
        if self.stopping:
            raise unavailable("stopping", "the service is stopping")
        name = next(iter(self.agents)) if model is None else model
        if name not in self.agents:
            known = ", ".join(self.agents)
            raise ApiError(404, "model_not_found", f"there is no model {name!r:.80}; known: {known}", "model")
        agent, own = self.agents[name], self._decoding
        try:
            row = agent.row_of(question)
        except InputError as error:
            raise wrong(str(error), "question") from error
        decoding = Decoding(
            own.temperature if temperature is None else temperature,
            own.top_p if top_p is None else top_p,
            own.seed if seed is None else seed,
        )
        try:
            place = self._turnstile.place(moved)
        except Full as error:
            waiting = self.limits.waiting
            raise unavailable("overloaded", f"{waiting} requests wait already; try again later") from error
        return Admitted(secrets.token_urlsafe(12), name, agent, row, decoding, place)

    async def play(self, asked: Admitted, watch: Watch) -> Trajectory:
        """The episode. Cancelled, it gives everything back that it has taken.

        Raises:
            ApiError: the engine fails, time is up, or the service is stopping.
        """
        events: list[dict[str, Any]] = []

        def keep(event: Event) -> None:
            if (stored := stored_json(event)) is not None:
                events.append(stored)
            watch(event)

        with asked.place:
            try:
                await asked.place.turn()
                trajectory = await self._play_in_time(asked, keep)
            except ApiError as error:
                self.metrics.episode(asked.model, error.code)
                raise
            except asyncio.CancelledError:
                self.metrics.episode(asked.model, "hung_up")
                raise
        self.metrics.episode(asked.model, trajectory.stop_reason.value, trajectory.seconds)
        for search in trajectory.searches:
            self.metrics.search(asked.model, bool(search.error))
        await self._keep(asked, [*events, end_json(trajectory, asked.name, asked.model)])
        return trajectory

    async def answer(self, asked: Admitted, watch: Watch) -> Trajectory:
        """The episode, for a client that wants an answer; `play` gives one that failed to those who watch it.

        Raises:
            ApiError: as `play` does, also where a search or an agent of the user's own failed.
        """
        trajectory = await self.play(asked, watch)
        if trajectory.stop_reason is StopReason.RETRIEVER_ERROR:
            said = next((search.error for search in trajectory.searches if search.error), "no reason given")
            raise unavailable("retriever_unavailable", f"the search failed: {said}")
        if trajectory.stop_reason is StopReason.AGENT_ERROR:
            raise ApiError(500, "agent_failed", "the agent's own code failed, see the service's log")
        return trajectory

    async def _play_in_time(self, asked: Admitted, watch: Watch) -> Trajectory:
        clock = asyncio.timeout(self.limits.episode_s)
        try:
            async with clock:
                self._clocks.add(clock)
                return await asked.agent.ask(asked.row, asked.decoding, watch)
        except RunAborted as error:
            logger.warning("%s: %s", asked.model, error)
            raise unavailable("engine_unavailable", "the model does not answer, see the service's log") from error
        except Exception as error:
            if not clock.expired():
                logger.exception("an episode of %s failed", asked.model)
                raise ApiError(500, "internal_error", "the episode failed, see the service's log") from error
            if self.stopping:
                raise unavailable("stopping", "the service is stopping") from error
            raise unavailable("timeout", f"no answer within {self.limits.episode_s:g} s") from error
        finally:
            self._clocks.discard(clock)

    async def _keep(self, asked: Admitted, events: list[dict[str, Any]]) -> None:
        facts = {"id": asked.name, "question": asked.row.question, "model": asked.model, "created": asked.created}
        try:
            await asyncio.to_thread(self.store.add, asked.name, {**facts, "events": events})
        except RunAborted as error:
            logger.warning("the episode %s is not kept: %s", asked.name, error)

    def stop(self) -> None:
        """Refuse new requests, send the line away, and give the episodes under way `drain_s` seconds."""
        self.stopping = True
        self._turnstile.send_away(unavailable("stopping", "the service is stopping"))
        last = asyncio.get_running_loop().time() + self.limits.drain_s
        for clock in self._clocks:
            when = clock.when()
            clock.reschedule(last if when is None else min(when, last))
