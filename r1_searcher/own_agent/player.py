"""Plays an episode with the user's agent in place of the built-in loop; what comes out is a `Trajectory` as well."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from foundation.errors import OutsideFailure, RunAborted, visible
from r1_searcher.episode.policy import Policy
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment
from r1_searcher.episode.searching import SearchReply
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.episode.watching import Watch
from r1_searcher.own_agent.agents import AgentFailed, OwnAgent
from r1_searcher.own_agent.chat_server import ChatServer
from r1_searcher.own_agent.conversation import Conversation
from retriever.errors import RetrieverError

logger = logging.getLogger(__name__)

SLOTS = 128
"""Episodes at a time, as vLLM plays by default."""
FAILURES_IN_A_ROW = 20
"""Episodes in a row that an agent may fail; then it is broken, and the run ends instead of training on nothing."""
_GRACE_S = 5.0
"""How long an agent that is told to stop may take to clean up."""
_MOST_ERROR_CHARS = 500


class OwnAgentPlayer:
    """Plays episodes with one agent, many at a time, within one event loop."""

    def __init__(self, agent: OwnAgent, slots: int = SLOTS, *, most_failures: int | None = FAILURES_IN_A_ROW) -> None:
        """Nothing is started yet.

        Args:
            agent: what the user wrote.
            slots: episodes at a time; those of the engine.
            most_failures: episodes in a row that it may fail; None where there is no run to end.

        Raises:
            InputError: for a wrong agent.
        """
        self._agent = agent
        self._runner = agent.runner(slots)
        self._slots = asyncio.Semaphore(slots)
        self._most_failures = most_failures
        self._server = ChatServer()
        self._starting: asyncio.Task[None] | None = None
        self._failures = 0

    async def play(
        self,
        environment: Environment,
        row: QARow,
        policy: Policy,
        *,
        progress: float = 0.0,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Play one question; see `r1_searcher.episode.rollout.run_episode`.

        Raises:
            RunAborted: the agent has failed `most_failures` episodes in a row.
        """
        async with self._slots:
            await self._listen()
            trajectory = await self._converse(Conversation(environment, row, policy, progress, watch))
        self._count(trajectory)
        return trajectory

    async def close(self) -> None:
        """End the agent, and stop listening."""
        await self._runner.close()
        if self._starting is not None:
            await self._server.stop()

    async def _listen(self) -> None:
        if self._starting is None:
            self._starting = asyncio.create_task(self._server.start())
        await self._starting

    async def _converse(self, conversation: Conversation) -> Trajectory:
        with self._server.open(conversation) as settings:
            agent = asyncio.ensure_future(self._runner.run(conversation.row.question, settings))
            try:
                await self._wait(conversation, {agent, conversation.ended})
                return self._outcome(conversation, agent)
            finally:
                conversation.close()
                agent.add_done_callback(lambda done: done.cancelled() or done.exception())
                agent.cancel()
                await asyncio.wait({agent}, timeout=_GRACE_S)

    async def _wait(self, conversation: Conversation, ends: set[asyncio.Future[Any]]) -> None:
        """Wait for one of `ends`, as long as an episode may take; an engine with a queue costs the agent nothing."""
        while (left := self._agent.seconds - conversation.agent_seconds) > 0:
            done, _ = await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return

    def _outcome(self, conversation: Conversation, agent: asyncio.Future[object]) -> Trajectory:
        if conversation.ended.done():
            conversation.ended.result()  # raises where there is a bug, or the model is gone
            return conversation.of_failed_search()
        if not agent.done():
            return conversation.give_up(f"no answer within {self._agent.seconds:g} s")
        if agent.cancelled():
            return conversation.give_up("it cancels itself")
        error = agent.exception()
        if error is None:
            return _answered(conversation, agent.result())
        if isinstance(error, RetrieverError | OutsideFailure) or (isinstance(error, AgentFailed) and error.outside):
            conversation.fail_search(SearchReply("", failure=_words_of(error)))
            return conversation.of_failed_search()
        return conversation.give_up(_words_of(error))

    def _count(self, trajectory: Trajectory) -> None:
        if trajectory.stop_reason is not StopReason.AGENT_ERROR:
            self._failures = 0
            return
        self._failures += 1
        logger.warning("the agent failed on question %s: %s", trajectory.row.id, trajectory.error)
        if self._most_failures is not None and self._failures >= self._most_failures:
            raise RunAborted(
                f"the agent failed {self._failures} episodes in a row; the last of them: {trajectory.error}. Fix it "
                "and run the same command again: the run continues from its last checkpoint."
            )


def _answered(conversation: Conversation, answer: object) -> Trajectory:
    if answer is not None and not isinstance(answer, str):
        return conversation.give_up(f"it returns {type(answer).__name__}, expected text or None")
    text = "" if answer is None else answer.encode("utf-8", "replace").decode("utf-8").strip()
    return conversation.finish(text or None)


def _words_of(error: BaseException) -> str:
    text = str(error) if isinstance(error, AgentFailed) else f"{type(error).__name__}: {error}"
    return visible(text)[:_MOST_ERROR_CHARS]
