"""Records to scores: the block of `scores.json` that one way of sampling has.

    n, retrieval_rate, format_rate, em, cover_em, f1, searches_per_question      means over the scored questions
    interval_95                      their intervals over questions
    metrics, metrics_interval_95     every variant of the answer metrics, by its full name
    by_dataset, by_hops              n and means of each group
    reward, rules                    mean reward, and how often each format rule was kept
    stop_reasons                     why episodes ended
    no_answer                        questions without an answer
    retriever_errors, agent_errors   questions whose search, or whose own agent, failed (not scored)
    judge                            accuracy by a judge's verdicts

What the records do not tell is left out: published predictions have no reward, and maybe no searches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.results.intervals import count_interval, share_interval
from eval.results.variants import VARIANTS, variant
from foundation.errors import RunAborted
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.run.episode_record import EpisodeRecord

SCORES: Mapping[str, str] = {
    "retrieval_rate": "retrieval/rate",
    "format_rate": "format/rate",
    "em": "answer/em",
    "cover_em": "answer/cover_em",
    "f1": "answer/f1",
    "searches_per_question": "retrieval/searches",
}
"""Name of a score -> the episode metric that it is the mean of."""

_COUNTS = ("searches_per_question",)
"""Scores that are no values in 0..1."""


FAILURES = {"retriever_errors": StopReason.RETRIEVER_ERROR, "agent_errors": StopReason.AGENT_ERROR}
"""Name of a count -> the end that an episode has which says nothing about the policy."""


def failures(records: Iterable[EpisodeRecord]) -> dict[str, int]:
    """How many of the episodes failed, by what failed."""
    ends = Counter(record.trajectory.stop_reason for record in records)
    return {name: ends[reason] for name, reason in FAILURES.items()}


def summarize(records: Iterable[EpisodeRecord]) -> dict[str, Any]:
    """Scores of one way of sampling, fractions in 0..1. Episodes that failed are counted and not scored.

    Raises:
        RunAborted: not one episode can be scored.
    """
    # In order of their ids, so that intervals do not depend on which episode ended first; published lines have none.
    everything = sorted(records, key=lambda record: "" if record.is_published else record.row.id)
    scored = [record for record in everything if not record.failed]
    if not scored:
        raise RunAborted(
            f"none of {len(everything)} questions can be scored: every one failed (its search, or the agent)"
        )
    names = [name for name, metric in SCORES.items() if all(metric in record.metrics for record in scored)]
    values = [[record.metrics[SCORES[name]] for name in names] for record in scored]
    answers = [[variant(record, name) for name in VARIANTS] for record in scored]
    return {
        **_means(names, values),
        "interval_95": _intervals(names, values),
        "metrics": _columns(VARIANTS, answers),
        "metrics_interval_95": _intervals(VARIANTS, answers),
        "by_dataset": _groups(scored, names, values, lambda record: record.row.source),
        "by_hops": _groups(scored, names, values, lambda record: record.row.hops),
        **_rewards(scored),
        "stop_reasons": dict(Counter(record.trajectory.stop_reason.value for record in scored).most_common()),
        "no_answer": sum(record.answer is None for record in scored),
        **failures(everything),
        **_judged(scored),
    }


def _means(names: Sequence[str], values: Sequence[Sequence[float]]) -> dict[str, Any]:
    return {"n": len(values), **_columns(names, values)}


def _columns(names: Iterable[str], values: Sequence[Sequence[float]]) -> dict[str, float]:
    """Name of each column -> its mean."""
    return dict(zip(names, np.mean(values, axis=0).round(6).tolist(), strict=True))


def _intervals(names: Iterable[str], values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Name of each column -> the interval of its mean."""
    return {
        name: list((count_interval if name in _COUNTS else share_interval)(column))
        for name, column in zip(names, zip(*values, strict=True), strict=True)
    }


def _groups(
    scored: Sequence[EpisodeRecord],
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    key: Callable[[EpisodeRecord], Hashable],
) -> dict[str, Any]:
    """The means of each group; records without the key (no dataset, no hops) are in none."""
    groups: dict[str, list[Sequence[float]]] = {}
    for record, row in zip(scored, values, strict=True):
        groups.setdefault(str(key(record) or ""), []).append(row)
    return {name: _means(names, groups[name]) for name in sorted(groups) if name}


def _rewards(scored: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Mean reward, and how often each format rule was kept."""
    rewards = [record.reward for record in scored if record.reward is not None]
    if len(rewards) < len(scored):
        return {}
    shared = [name for name in rewards[0].rules if all(name in reward.rules for reward in rewards)]
    rules = {name: _mean([float(reward.rules[name]) for reward in rewards]) for name in shared}
    return {"reward": _mean([reward.total for reward in rewards]), "rules": rules}


def _judged(scored: Sequence[EpisodeRecord]) -> dict[str, Any]:
    verdicts = [float(record.judged) for record in scored if record.judged is not None]
    if not verdicts:
        return {}
    return {"judge": {"n": len(verdicts), "accuracy": _mean(verdicts), "interval_95": list(share_interval(verdicts))}}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)
