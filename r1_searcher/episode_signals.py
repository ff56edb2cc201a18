"""What a step's episodes tell beyond their mean metrics: variance within groups, thinking, repetition, entropy.

A group is all samples of one question in one step.  Everything is a view of the logged episodes
(:mod:`r1_searcher.episode_log`), so a finished run can be looked at again.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_searcher.protocol import Protocol
from r1_searcher.trajectory import SpanKind, StopReason

_SAME = 1e-6
"""Rewards closer than this are the same: no gradient comes of their difference."""


@dataclass
class StepSignals:
    """Grows by one episode at a time; :meth:`values` gives what is known so far."""

    protocol: Protocol
    rewards: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each group."""
    think_words: list[int] = field(default_factory=list)
    forged: int = 0
    """Episodes in which the policy wrote a tag of a document block."""
    searches: int = 0
    repeated: int = 0
    """Searches whose query was asked before in the same episode."""
    sampled: int = 0
    """Tokens that have a log-prob."""
    surprise: float = 0.0
    """Sum of their negative log-probs, in nats."""

    def add(self, episode: Mapping[str, Any]) -> None:
        """Count one line of an episode log.  One that its search service failed says nothing about the policy."""
        if episode["stop_reason"] == StopReason.RETRIEVER_ERROR.value:
            return
        self.rewards[episode["row"]["id"]].append(float(episode["reward"]["total"]))
        actions = [span for span in episode["spans"] if span[0] == SpanKind.ACTION.value]
        text = "\n".join(span[3] for span in actions)
        self.think_words.append(_thinking(text, self.protocol))
        self.forged += self.protocol.documents.open in text or self.protocol.documents.close in text
        queries = [" ".join(search["query"].lower().split()) for search in episode["searches"]]
        self.searches += len(queries)
        self.repeated += len(queries) - len(set(queries))
        logprobs = episode.get("logprobs")
        if logprobs:
            for _, start, end, _ in actions:
                self.sampled += end - start
                self.surprise -= sum(logprobs[start:end])

    def values(self, best_reward: float) -> dict[str, float]:
        """``episodes/<name>`` to value; what cannot be told is left out.

        Args:
            best_reward: the highest reward of an episode in the run so far.  A group of equal rewards is dead unless
                it has that one: a question that is always answered right needs no gradient.
        """
        if not self.think_words:
            return {}
        means = [statistics.fmean(group) for group in self.rewards.values()]
        dead = [max(group) - min(group) < _SAME and max(group) < best_reward - _SAME for group in self.rewards.values()]
        values = {
            "episodes/dead_groups": statistics.fmean(dead),
            "episodes/think_words": statistics.fmean(self.think_words),
            "episodes/forged": self.forged / len(self.think_words),
            "episodes/repeated_queries": self.repeated / self.searches if self.searches else 0.0,
        }
        if len(means) > 1:
            values["episodes/reward_error"] = statistics.stdev(means) / math.sqrt(len(means))
        if self.sampled:
            values["episodes/entropy"] = self.surprise / self.sampled
        return values

    @property
    def best_reward(self) -> float:
        """The highest reward of an episode here."""
        return max((max(group) for group in self.rewards.values()), default=-math.inf)


def _thinking(text: str, protocol: Protocol) -> int:
    """Words of the policy outside its queries and answers."""
    for tags in (protocol.query, protocol.answer):
        while (start := text.find(tags.open)) >= 0:
            end = text.find(tags.close, start)
            text = text[:start] + (" " + text[end + len(tags.close) :] if end >= 0 else "")
    for tag in (protocol.think.open, protocol.think.close):
        text = text.replace(tag, " ")
    return len(text.split())
