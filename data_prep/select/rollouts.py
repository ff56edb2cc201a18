"""Rollouts for difficulty: one model, each question repeatedly until it is answered correctly.

A round plays the n-th rollout of every question that is still open, through the evaluation's own episodes. Every
finished rollout is a line on disk, so that a killed run loses only those in flight; the seed of a rollout is its
number and what is in its context, so that the same rollouts come out however often the run was killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from data_prep.select.difficulty import Tries
from eval.play.contestant import Contestant
from eval.play.evaluation import evaluate
from foundation.errors import InputError, RunAborted
from foundation.json_lines import JsonLines, read_finished
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment
from r1_searcher.inference.decoding import Decoding, PolicyFactory
from r1_searcher.reward.metrics import METRICS
from r1_searcher.run.episode_record import EpisodeRecord

_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Criterion:
    """When an answer is right."""

    metric: str = "r1_searcher.cover_em"
    """A name of `r1_searcher.reward.metrics.METRICS`."""
    right_from: float = 1.0
    """Value of the metric from which on it is."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InputError(f"unknown metric {self.metric!r}; known: {', '.join(METRICS)}")
        if not 0 < self.right_from <= 1:
            raise InputError(f"an answer is right from a value above 0 and at most 1; found {self.right_from:g}")

    def score(self, answer: str | None, row: QARow) -> float:
        """The metric's value."""
        return METRICS[self.metric](answer, row.answers)


@dataclass(frozen=True)
class RolloutPlan:
    """One way of asking: how it is played, and how often at most."""

    name: str
    contestant: Contestant
    samples: int


class RolloutLog:
    """`rollouts.jsonl`: one line per finished rollout; opening it again continues.

    A rollout whose search failed is not written: it is played again.
    """

    def __init__(self, path: Path, criterion: Criterion) -> None:
        self._criterion = criterion
        self._scores: dict[tuple[str, str], dict[int, float]] = {}
        for line in read_finished(path) if path.is_file() else ():
            self._note(line["phase"], line["id"], line["rollout"], line["score"])
        self._log = JsonLines(path)

    def add(self, phase: str, rollout: int, seed: int, record: EpisodeRecord) -> None:
        """Record a rollout, counted from 0. Raises `RunAborted` where the disk is full."""
        if record.failed:
            return
        trajectory, row, answer = record.trajectory, record.row, record.answer
        value = self._criterion.score(answer, row)
        self._log.append(
            {
                "phase": phase,
                "id": row.id,
                "rollout": rollout,
                "seed": seed,
                "score": value,
                "answer": answer,
                "searches": trajectory.n_searches,
                "stop_reason": trajectory.stop_reason.value,
            }
        )
        self._note(phase, row.id, rollout, value)

    def tries(self, phase: RolloutPlan, row: QARow) -> Tries:
        """The question's rollouts up to the first right one, or the first that is missing."""
        scores = self._scores.get((phase.name, row.id), {})
        for rollout in range(phase.samples):
            if rollout not in scores:
                return Tries(rollout, right=False)
            if scores[rollout] >= self._criterion.right_from:
                return Tries(rollout + 1, right=True)
        return Tries(phase.samples, right=False)

    def open_questions(self, phase: RolloutPlan, rows: Sequence[QARow]) -> list[QARow]:
        """The questions that need further rollouts."""
        tries = ((row, self.tries(phase, row)) for row in rows)
        return [row for row, each in tries if not each.right and each.made < phase.samples]

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def _note(self, phase: str, identifier: str, rollout: int, score: float) -> None:
        self._scores.setdefault((phase, identifier), {})[rollout] = score


@dataclass
class Roller:
    """Plays what is missing of a phase."""

    log: RolloutLog
    policies: PolicyFactory
    decoding: Decoding
    """Of the first rollout; the seeds of the further ones follow its own."""
    concurrency: int
    console: TextIO
    failures: dict[str, str] = field(default_factory=dict)
    """Question -> how its search failed."""

    async def roll(self, phase: RolloutPlan, rows: Sequence[QARow], environment: Environment) -> None:
        """Round after round until every question is answered or asked often enough.

        Raises:
            RunAborted: the search service is down, or searches failed: those questions are still open.
        """
        for rollout in range(phase.samples):
            still_open = self.log.open_questions(phase, rows)
            due = [row for row in still_open if self.log.tries(phase, row).made == rollout]
            if due:
                await self._round(phase, rollout, due, environment)
        left = self.log.open_questions(phase, rows)
        if left:
            raise RunAborted(
                f"searches failed for {len(left)} questions; last failure: {self.failures.get(left[-1].id)}. The same "
                "command asks them again: finished rollouts are kept."
            )

    async def _round(self, phase: RolloutPlan, rollout: int, rows: Sequence[QARow], environment: Environment) -> None:
        decoding = Decoding(self.decoding.temperature, self.decoding.top_p, self.decoding.seed + rollout)
        interval = 0.1 if self.console.isatty() else _SECONDS_BETWEEN_LINES
        label = f"{phase.name} {rollout + 1}/{phase.samples}"
        with tqdm(total=len(rows), desc=label, unit="q", file=self.console, mininterval=interval, ncols=100) as bar:

            def finished(record: EpisodeRecord) -> None:
                if record.failed:
                    self.failures[record.row.id] = record.trajectory.searches[-1].error
                self.log.add(phase.name, rollout, decoding.seed, record)
                bar.update()

            await evaluate(
                rows,
                environment,
                self.policies.policy(decoding),
                phase.contestant.recipe.reward,
                concurrency=self.concurrency,
                player=partial(phase.contestant.player, tokenizer=environment.tokenizer),
                finished=finished,
            )


def seeds_of(decoding: Decoding, phases: Sequence[RolloutPlan]) -> Mapping[str, list[int]]:
    """The seeds of each phase's rollouts, for the record."""
    return {phase.name: [decoding.seed + rollout for rollout in range(phase.samples)] for phase in phases}
