"""Signals of a step's episodes beyond their mean metrics: variance within groups, thinking, repetition, entropy.

A group is all samples of one question in one step. Everything is a view of the logged episodes
(`r1_searcher.run.episode_log`), so a finished run can be looked at again.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from r1_searcher.episode.protocol import Protocol
from r1_searcher.run.episode_record import EpisodeRecord

_SAME = 1e-6
"""Rewards closer than this are the same: they are handed to OpenRLHF as equal, so the group has no gradient."""


@dataclass
class _Group:
    """The samples of one question in one step."""

    rewards: list[float] = field(default_factory=list)
    sampled: int = 0
    """Tokens that have a log-prob."""
    surprise: float = 0.0
    """Sum of their negative log-probs, in nats."""

    def is_open(self, best_reward: float) -> bool:
        """Whether there is something left to learn: not every sample got the best reward."""
        return min(self.rewards) < best_reward - _SAME

    @property
    def is_uniform(self) -> bool:
        """Whether all samples got the same reward, so that the group has no gradient."""
        return max(self.rewards) - min(self.rewards) < _SAME


@dataclass
class StepSignals:
    """Grows by one episode at a time; `values` gives what is known so far."""

    protocol: Protocol
    stage: int = 1
    """Reward stage of the step's episodes."""
    groups: dict[str, _Group] = field(default_factory=lambda: defaultdict(_Group))
    """By question."""
    think_words: list[int] = field(default_factory=list)
    forged: int = 0
    """Episodes in which the policy wrote a tag of a document block."""
    searches: int = 0
    repeated: int = 0
    """Searches whose query was asked before in the same episode."""

    def add(self, episode: EpisodeRecord) -> None:
        """Count a rewarded episode; without a reward, or with a failed search, it says nothing about the policy."""
        if episode.failed or episode.reward is None:
            return
        self.stage = episode.stage or 1
        group = self.groups[episode.row.id]
        group.rewards.append(episode.reward.total)
        trajectory = episode.trajectory
        text = trajectory.model_text
        self.think_words.append(_thinking(text, self.protocol))
        self.forged += self.protocol.documents.open in text or self.protocol.documents.close in text
        queries = [" ".join(search.query.lower().split()) for search in trajectory.searches]
        self.searches += len(queries)
        self.repeated += len(queries) - len(set(queries))
        if trajectory.logprobs:
            for start, end in trajectory.action_ranges:
                group.sampled += end - start
                group.surprise -= sum(trajectory.logprobs[start:end])

    def values(self, best_reward: float) -> dict[str, float]:
        """`episodes/<name>` to value; what cannot be told is left out.

        Args:
            best_reward: the highest reward of an episode in the run's stage so far. A question that is always answered
                with that one is solved: that its group gives no gradient, and no surprise, is no sign of anything.
        """
        groups = list(self.groups.values())
        if not groups:
            return {}
        means = [statistics.fmean(group.rewards) for group in groups]
        unsolved = [group for group in groups if group.is_open(best_reward)]
        values = {
            "episodes/dead_groups": sum(group.is_uniform for group in unsolved) / len(groups),
            "episodes/think_words": statistics.fmean(self.think_words),
            "episodes/forged": self.forged / len(self.think_words),
            "episodes/repeated_queries": self.repeated / self.searches if self.searches else 0.0,
        }
        if len(means) > 1:
            values["episodes/reward_error"] = statistics.stdev(means) / math.sqrt(len(means))
        for name, chosen in (("entropy", groups), ("open_entropy", unsolved)):
            if sampled := sum(group.sampled for group in chosen):
                values[f"episodes/{name}"] = sum(group.surprise for group in chosen) / sampled
        return values

    @property
    def best_reward(self) -> float:
        """The highest reward of an episode here."""
        return max((max(group.rewards) for group in self.groups.values()), default=-math.inf)


def _thinking(text: str, protocol: Protocol) -> int:
    """Words of the policy outside its queries and answers."""
    for tags in (protocol.query, protocol.answer):
        while (start := text.find(tags.open)) >= 0:
            end = text.find(tags.close, start)
            text = text[:start] + (" " + text[end + len(tags.close) :] if end >= 0 else "")
    for tag in (protocol.think.open, protocol.think.close):
        text = text.replace(tag, " ")
    return len(text.split())
