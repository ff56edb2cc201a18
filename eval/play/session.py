"""One evaluation in progress: asks the open questions, with any policy, and scores all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TextIO

from eval.play.contestant import Contestant
from eval.play.evaluation import Play, evaluate
from eval.play.progress import ProgressBar
from eval.results.folder import Predictions
from eval.results.summary import summarize
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.inference.decoding import Decoding, PolicyFactory
from r1_searcher.run.episode_record import EpisodeRecord


@dataclass
class Timing:
    """Wall time of the phases, for the record."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 2)
        self._last = now


@dataclass
class Session:
    """Questions, ways of decoding, and the answers so far."""

    contestant: Contestant
    rows: Sequence[QARow]
    decodings: Sequence[Decoding]
    predictions: Predictions
    timing: Timing
    concurrency: int = 64

    @property
    def is_complete(self) -> bool:
        """Whether every question is answered under every decoding."""
        return not any(self.predictions.missing(decoding.name, self.rows) for decoding in self.decodings)

    async def ask(
        self, policies: PolicyFactory, environment: Environment, console: TextIO, play: Play = run_episode
    ) -> None:
        """Ask what is missing, one decoding after the other, with a progress bar on `console`; `play` as `evaluate`."""
        for decoding in self.decodings:
            earlier = self.predictions.of(decoding.name)
            rows = self.predictions.missing(decoding.name, self.rows)
            if not rows:
                continue
            with ProgressBar(decoding.name, len(self.rows), console, earlier) as progress:
                await evaluate(
                    rows,
                    environment,
                    policies.policy(decoding),
                    self.contestant.recipe.reward,
                    concurrency=self.concurrency,
                    play=play,
                    player=partial(self.contestant.player, tokenizer=environment.tokenizer),
                    finished=partial(self._record, decoding.name, progress),
                )
            self.timing.lap(decoding.name)

    def _record(self, decoding: str, progress: ProgressBar, record: EpisodeRecord) -> None:
        self.predictions.add(replace(record, decoding=decoding))
        progress.add(record)

    def scores(self) -> dict[str, Any]:
        """The summary of every decoding, by name."""
        return {decoding.name: summarize(self.predictions.of(decoding.name)) for decoding in self.decodings}
