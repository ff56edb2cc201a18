"""The samples of one question, and the rewards that OpenRLHF is handed for them.

OpenRLHF compares an episode with the other samples of its question. Three things follow for what it is told:

- Equal rewards must be equal to the last bit after its own arithmetic, so they lie on a dyadic grid (`on_grid`).
- An episode whose search failed says nothing about the policy. It is handed the mean of its siblings, which leaves
  their mean where it would be without it; a 0 would count fully for or against each of them.
- All samples are judged by one reward, so a run's second stage begins between questions, never inside of one.

OpenRLHF drops questions by the mean of their samples' scores, which lies in 0..1 as long as no range is given. Where a
question is to be kept for the differences of its samples, all of them are therefore handed one score that says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import fmean

from r1_searcher.run.run_config import QuestionFilter

KEPT, DROPPED = 0.5, 0.0
"""Scores of a question's samples: within OpenRLHF's range of means, 0 to 1 without its ends, and outside of it."""

GRID = 1024
"""Rewards are multiples of 1/GRID: sums of up to 2^9 of them, each below 2^5, are exact in float32."""


def on_grid(reward: float) -> float:
    """The reward rounded to a multiple of 1/1024.

    `group_norm` divides by the group's standard deviation plus 1e-9 (openrlhf/trainer/ppo_utils/experience_maker.py).
    Eight rewards of 0.1 have a float32 mean that is off by 7.45e-9 and a standard deviation of exactly 0, so each
    gets an advantage of -7.45. On the grid the mean of equal rewards is that reward and the advantage is 0.
    """
    return round(reward * GRID) / GRID


@dataclass
class SampleGroup:
    """The samples of one question that one engine plays at the same time."""

    size: int
    """How many there are."""
    key: object
    """What they share in the host: their sampling parameters, one object per question."""
    stage: int = 0
    """Reward stage of all of them; 0 until the first sample begins."""
    played: list[tuple[bool, bool]] = field(default_factory=list)
    """Of each sample that has ended, whether it retrieved and whether it kept the format."""
    _rewards: list[float] = field(default_factory=list)
    _ended: int = 0
    _all_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, stage: int) -> int:
        """The stage under which a sample is rewarded that begins when the run is in `stage`: the first sample's."""
        self.stage = self.stage or stage
        return self.stage

    def end(self, reward: float | None) -> None:
        """Note that a sample has ended, with its reward, or with None where it has none."""
        self._ended += 1
        if reward is not None:
            self._rewards.append(reward)
        if self.complete:
            self._all_ended.set()

    @property
    def complete(self) -> bool:
        """Whether every sample has ended."""
        return self._ended >= self.size

    async def mean_reward(self) -> float:
        """Mean over the samples that have a reward, once all have ended; 0 where none has."""
        await self._all_ended.wait()
        return self._mean()

    def is_kept(self, question_filter: QuestionFilter | None) -> bool:
        """Whether the host trains on the question, by the rewards that it is handed. All samples must have ended."""
        return question_filter is None or question_filter.keeps(self._rewards or [0.0])

    async def score(self, reward: float, question_filter: QuestionFilter | None) -> float:
        """What the host filters by: a sample's reward, or, once all have ended, whether their rewards differ."""
        if question_filter is None or question_filter.between is not None:
            return reward
        await self._all_ended.wait()
        return KEPT if self.is_kept(question_filter) else DROPPED

    def _mean(self) -> float:
        return fmean(self._rewards) if self._rewards else 0.0


class SampleGroups:
    """The groups that one engine is playing."""

    def __init__(self, size: int) -> None:
        """`size` is the number of samples per question, `--rollout.n_samples_per_prompt`."""
        self._size = size
        self._open: dict[int, SampleGroup] = {}

    def __len__(self) -> int:
        """Groups of which a sample is still being played."""
        return len(self._open)

    def of(self, sampling_params: object) -> SampleGroup:
        """The group of a sample. The host passes one object of sampling parameters to all samples of a question."""
        key = id(sampling_params)  # unique while the group holds the object
        if key not in self._open:
            self._open[key] = SampleGroup(self._size, sampling_params)
        return self._open[key]

    def end(self, group: SampleGroup, reward: float | None) -> None:
        """Note a sample's end, and forget the group with its last one."""
        group.end(reward)
        if group.complete:
            self._open.pop(id(group.key), None)
