"""The OpenRLHF seam: `--train.agent_func_path` points here.

OpenRLHF loads this file by path in every rollout actor, builds `AgentExecutor` without arguments and calls
`execute` for all episodes concurrently. Everything that the executor knows comes from the run's configuration.
"""

from __future__ import annotations

import os
import socket
import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from openrlhf.utils.agent import AgentExecutorBase

from foundation.retry import RetryPolicy
from r1_searcher.episode.engine_policy import EnginePolicy
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.host.model_folder import wrapped
from r1_searcher.host.patches.document_correction import NO_LOG_PROB
from r1_searcher.host.progress_actor import SharedProgress
from r1_searcher.host.sample_group import SampleGroup, SampleGroups, on_grid
from r1_searcher.own_agent.player import OwnAgentPlayer
from r1_searcher.reward.rewards import RewardResult
from r1_searcher.run.episode_log import EpisodeLog
from r1_searcher.run.episode_metrics import episode_metrics
from r1_searcher.run.episode_record import EpisodeRecord
from r1_searcher.run.outage import OutageGate
from r1_searcher.run.run_config import RunConfig
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.scorers import scorer_of
from retriever.errors import RetrieverError
from retriever.interface import Source
from retriever.sources import open_retriever


class AgentExecutor(AgentExecutorBase):
    """Plays episodes for OpenRLHF. Holds what they share and no state of any of them."""

    def __init__(self) -> None:
        self.run = RunConfig.of_this_process()
        self.recipe = self.run.recipe
        self.reward = scorer_of(self.run)
        self.groups = SampleGroups(self.run.samples_per_question)
        self._environment: Environment | None = None
        agent, slots = self.recipe.agent, self.run.engine_slots
        self._play_episode = run_episode if agent is None else OwnAgentPlayer(agent, slots).play

    @cached_property
    def retriever(self) -> Source:
        """The search service's client, shared by all episodes of this engine."""
        return self._open(self.run.retriever.source)

    @cached_property
    def tools(self) -> dict[str, Source]:
        """The retrievers of the protocol's tools beside the search."""
        browse = self.run.retriever.browse
        return {"browse": self._open(browse)} if browse else {}

    def _open(self, source: str) -> Source:
        config = self.run.retriever
        retry = RetryPolicy(attempts=config.attempts, deadline=config.deadline)
        return open_retriever(source, read_timeout=config.read_timeout, retry=retry)

    @cached_property
    def progress(self) -> SharedProgress:
        """The run's count of questions, which all engines share."""
        return SharedProgress()

    @cached_property
    def gate(self) -> OutageGate:
        """Waits out outages of what episodes search and read; see `r1_searcher.run.outage`."""
        return OutageGate(self._sources_are_healthy, self.run.retriever.outage_seconds)

    async def _sources_are_healthy(self) -> bool:
        try:
            for source in (self.retriever, *self.tools.values()):
                await source.health()
        except RetrieverError:
            return False
        return True

    @cached_property
    def log(self) -> EpisodeLog:
        """This engine's file of episodes."""
        name = self.run.attempt.log_name(f"{socket.gethostname()}-{os.getpid()}")
        return EpisodeLog(RunFolder(Path(self.run.run_dir)).trajectories / name)

    def environment(self, hf_tokenizer: Any) -> Environment:
        """The recipe's environment around the host's tokenizer; built once (the host sends a copy per prompt)."""
        if self._environment is None:
            self._environment = Environment(
                self.recipe.protocol, self.recipe.limits, self.retriever, wrapped(hf_tokenizer), self.tools
            )
        return self._environment

    async def execute(
        self,
        prompt: str,
        label: str,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        llm_engine: Any,
        images: Any = None,
    ) -> dict[str, Any]:
        """Play one episode; the answer is what OpenRLHF's `SamplesGenerator` reads.

        `label` is the dataset row as JSON. The prompt is rendered from it, `prompt` is only echoed: the host
        uses it as a key.
        """
        row = QARow.from_json(label)
        policy = EnginePolicy(llm_engine.generate, sampling_params)
        group = self.groups.of(sampling_params)
        earned: float | None = None
        try:
            trajectory, reward, metrics = await self._play(row, policy, self.environment(hf_tokenizer), group)
            if not trajectory.failed:
                earned = on_grid(reward.total)
        finally:
            self.groups.end(group, earned)
        if group.complete:
            await self.progress.end(group.played, kept=group.is_kept(self.run.question_filter))
        handed = await group.mean_reward() if earned is None else earned
        score = await group.score(handed, self.run.question_filter)
        return self._response(trajectory, handed, score, metrics, prompt=prompt, label=label, images=images)

    async def _play(
        self, row: QARow, policy: EnginePolicy, environment: Environment, group: SampleGroup
    ) -> tuple[Trajectory, RewardResult, dict[str, float]]:
        """One episode, played again while its searches fail; every attempt is logged."""
        ticket = await self.progress.begin()
        stage = group.begin(ticket.stage)
        play = partial(self._play_episode, environment, row, policy, progress=ticket.fraction)
        async for attempt, trajectory in self.gate.attempts(play):
            started = time.perf_counter()
            reward = await self.reward.score(trajectory, stage)
            reward_seconds = time.perf_counter() - started
            if self.run.logs(ticket.step, row.id):
                self.log.write(EpisodeRecord(trajectory, reward, step=ticket.step, stage=stage, attempt=attempt))
        failed = attempt + (trajectory.stop_reason is StopReason.RETRIEVER_ERROR)
        metrics = episode_metrics(trajectory, reward, failed_attempts=failed, reward_seconds=reward_seconds)
        group.played.append((bool(metrics["retrieval/rate"]), bool(metrics["format/rate"])))
        if self.run.counts_progress:
            metrics |= {"schedule/stage": float(stage), "schedule/progress": ticket.fraction}
        return trajectory, reward, metrics

    def _response(
        self, trajectory: Trajectory, handed: float, score: float, metrics: dict[str, float], **echo: Any
    ) -> dict[str, Any]:
        return {
            **echo,
            "mm_train_inputs": None,
            "observation_tokens": list(trajectory.ids),
            "action_ranges": trained_ranges(trajectory, train_on_documents=self.recipe.train_on_documents),
            "rollout_log_probs": rollout_log_probs(trajectory, train_on_documents=self.recipe.train_on_documents),
            "truncated": trajectory.stop_reason is StopReason.LENGTH,
            "reward": handed,
            "scores": score,
            "extra_logs": metrics,
        }


def trained_ranges(trajectory: Trajectory, *, train_on_documents: bool = False) -> list[tuple[int, int]]:
    """`[start, end)` of the ids that the loss sees: what the policy wrote, nothing of a failed episode.

    `train_on_documents` is the ablation without the document mask: everything after the prompt.
    """
    if trajectory.failed:
        return []
    if not train_on_documents:
        return trajectory.action_ranges
    return [(span.start, span.end) for span in trajectory.spans if span.kind is not SpanKind.PROMPT]


def rollout_log_probs(trajectory: Trajectory, *, train_on_documents: bool = False) -> list[float] | None:
    """The engine's log-prob of each id, 0.0 for what it did not sample; None where the engine gave none.

    With `train_on_documents`, what the environment inserted has `NO_LOG_PROB`: trained, and sampled by no policy.
    """
    if trajectory.logprobs is None:
        return None
    found = list(trajectory.logprobs)
    inserted = trajectory.of_kind(SpanKind.DOCUMENTS, SpanKind.FEEDBACK) if train_on_documents else ()
    for span in inserted:
        found[span.start : span.end] = [NO_LOG_PROB] * (span.end - span.start)
    return found
