"""Episodes to scores: means, the same by hops, bootstrap intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.play.evaluation import Episode
from eval.results import bootstrap
from foundation.errors import RunAborted
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.run.episode_metrics import episode_metrics

SCORES: Mapping[str, str] = {
    "retrieval_rate": "retrieval/rate",
    "format_rate": "format/rate",
    "em": "answer/em",
    "cover_em": "answer/cover_em",
    "f1": "answer/f1",
    "searches_per_question": "retrieval/searches",
}
"""Name of a score -> the episode metric that it is the mean of."""


@dataclass(frozen=True)
class Outcome:
    """The figures of one episode that a summary uses."""

    id: str
    hops: int | None
    stop_reason: StopReason
    reward: float
    metrics: Mapping[str, float]
    """As `r1_searcher.run.episode_metrics.episode_metrics` names them."""

    @classmethod
    def of(cls, episode: Episode) -> Outcome:
        """The outcome of a finished episode."""
        trajectory, row = episode.trajectory, episode.trajectory.row
        metrics = episode_metrics(trajectory, episode.reward)
        return cls(row.id, row.hops, trajectory.stop_reason, episode.reward.total, metrics)

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Outcome:
        """The outcome of a line of `predictions.jsonl`."""
        return cls(
            id=line["row"]["id"],
            hops=line["row"].get("hops"),
            stop_reason=StopReason(line["stop_reason"]),
            reward=float(line["reward"]["total"]),
            metrics=line["metrics"],
        )

    @property
    def counts(self) -> bool:
        """Whether the episode says something about the policy: its searches did not fail."""
        return self.stop_reason is not StopReason.RETRIEVER_ERROR


def summarize(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Scores of one decoding. Episodes whose search failed are counted and not scored.

    Raises:
        RunAborted: not one episode can be scored.
    """
    everything = sorted(outcomes, key=lambda outcome: outcome.id)  # so that intervals do not depend on timing
    scored = [outcome for outcome in everything if outcome.counts]
    if not scored:
        raise RunAborted(f"none of {len(everything)} questions can be scored: every search failed")
    hops = sorted({outcome.hops for outcome in scored if outcome.hops is not None})
    return {
        **_means(scored),
        "interval_95": intervals(scored),
        "by_hops": {str(n): _means([outcome for outcome in scored if outcome.hops == n]) for n in hops},
        "reward": _mean(outcome.reward for outcome in scored),
        "rules": _rules(scored),
        "stop_reasons": dict(Counter(outcome.stop_reason.value for outcome in scored).most_common()),
        "retriever_errors": len(everything) - len(scored),
    }


def intervals(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Bootstrap interval of every score."""
    values = [[outcome.metrics[key] for key in SCORES.values()] for outcome in outcomes]
    return dict(zip(SCORES, bootstrap.intervals(values), strict=True))


def _means(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "n": len(outcomes),
        **{name: _mean(outcome.metrics[key] for outcome in outcomes) for name, key in SCORES.items()},
    }


def _rules(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """How often each format rule was kept."""
    keys = [key for key in outcomes[0].metrics if key.startswith("rule/")]
    return {key.removeprefix("rule/"): _mean(outcome.metrics[key] for outcome in outcomes) for key in keys}


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 6)
