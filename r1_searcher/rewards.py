"""Rewards: weighted sums of named parts over a finished episode.

A part and a rule are plain functions of ``(trajectory, protocol)``; a reward is a value that names and weighs
them; a system's reward is a row of :data:`REWARDS`.  Each part and each rule is logged under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from r1_searcher import published_rewards as published
from r1_searcher.format_rules import FORMAT_RULES, Rule, check
from r1_searcher.metrics import f1
from r1_searcher.protocol import Protocol
from r1_searcher.trajectory import StopReason, Trajectory

Part = Callable[[Trajectory, Protocol], float]


@dataclass(frozen=True)
class RewardResult:
    """One episode's reward, and how it came about."""

    total: float
    """Sum of the parts."""
    parts: Mapping[str, float]
    """Each part's contribution, its weight included."""
    rules: Mapping[str, bool]
    """Each format rule, and whether it was kept."""

    def logs(self) -> dict[str, float]:
        """Metrics ``reward/<part>`` and ``rule/<rule>`` (1 kept, 0 broken); the same keys every time."""
        return {
            **{f"reward/{name}": value for name, value in self.parts.items()},
            **{f"rule/{name}": float(kept) for name, kept in self.rules.items()},
        }


@dataclass(frozen=True)
class WeightedPart:
    """A part and what a value of 1 is worth."""

    weight: float
    part: Part


@dataclass(frozen=True)
class Reward:
    """A weighted sum of named parts, with the format rules that are reported beside it."""

    name: str
    source: str
    """Where it is published, and how it differs."""
    parts: Mapping[str, WeightedPart]
    rules: Mapping[str, Rule] = field(default_factory=lambda: FORMAT_RULES)


def score(reward: Reward, trajectory: Trajectory, protocol: Protocol) -> RewardResult:
    """The reward of one episode.

    An episode that ended in RETRIEVER_ERROR gets the neutral reward: total 0, every part 0, every rule kept.
    Nothing of it counts for or against the policy; the executor masks its tokens and logs its stop reason.
    """
    if trajectory.stop_reason is StopReason.RETRIEVER_ERROR:
        return RewardResult(0.0, dict.fromkeys(reward.parts, 0.0), dict.fromkeys(reward.rules, True))
    # "+ 0.0": a negative weight on a part of 0 would be logged as -0.0.
    parts = {
        name: weighted.weight * weighted.part(trajectory, protocol) + 0.0 for name, weighted in reward.parts.items()
    }
    return RewardResult(sum(parts.values()), parts, check(reward.rules, trajectory, protocol))


def neutral(reward: RewardResult) -> RewardResult:
    """The reward that says nothing about the policy, with the same parts and rules."""
    return RewardResult(0.0, dict.fromkeys(reward.parts, 0.0), dict.fromkeys(reward.rules, True))


def retrieved(trajectory: Trajectory, protocol: Protocol) -> float:
    """1 where at least one search brought documents back into the context."""
    return float(trajectory.n_searches >= 1)


def answer_f1(trajectory: Trajectory, protocol: Protocol) -> float:
    """R1-Searcher's F1 of the recorded answer, best over the golds; 0 without an answer."""
    return f1(trajectory.answer, trajectory.row.answers)


def keeps(rules: Mapping[str, Rule]) -> Part:
    """The part that is 1 where all rules are kept."""
    return lambda trajectory, protocol: float(all(check(rules, trajectory, protocol).values()))


def breaks(rules: Mapping[str, Rule]) -> Part:
    """The part that is 1 where at least one rule is broken, however many are."""
    return lambda trajectory, protocol: float(not all(check(rules, trajectory, protocol).values()))


_ROWS = (
    Reward(
        name="r1_searcher.stage1",
        source="R1-Searcher, paper, stage 1: 0.5 for retrieving, 0.5 for format. 0..1",
        parts={"retrieval": WeightedPart(0.5, retrieved), "format": WeightedPart(0.5, keeps(FORMAT_RULES))},
    ),
    Reward(
        name="r1_searcher.stage2",
        source="R1-Searcher, paper, stage 2: F1 of the answer, -2 once if any format rule is broken. -2..1",
        parts={"answer": WeightedPart(1.0, answer_f1), "format": WeightedPart(-2.0, breaks(FORMAT_RULES))},
    ),
    Reward(
        name="r1_searcher.base_code",
        source="R1-Searcher, reward_server_qwen_zero.py: stage 2 with rules on the whole completion. -2..1",
        parts={
            "answer": WeightedPart(1.0, published.answer_f1),
            "format": WeightedPart(-2.0, breaks(published.BASE_RULES)),
        },
        rules=published.BASE_RULES,
    ),
    Reward(
        name="r1_searcher.llama_stage1_code",
        source="R1-Searcher, reward_server_llama_stage1.py: +-1 for cover-EM (not in the paper), "
        "0.5 for retrieving, 0.5 for think and answer tags. -1..2",
        parts={
            "answer": WeightedPart(1.0, published.answer_covered),
            "retrieval": WeightedPart(0.5, lambda *seen: float(published.documents_present(*seen))),
            "format": WeightedPart(0.5, keeps(published.LLAMA_STAGE1_TAG_RULES)),
        },
        rules={**published.LLAMA_STAGE1_TAG_RULES, "documents_present": published.documents_present},
    ),
    Reward(
        name="r1_searcher.llama_stage2_code",
        source="R1-Searcher, reward_server_llama_stage2.py: F1, -1 (paper: -2) if a check fails. -1..1",
        parts={
            "answer": WeightedPart(1.0, published.answer_f1),
            "format": WeightedPart(-1.0, breaks(published.LLAMA_STAGE2_RULES)),
        },
        rules=published.LLAMA_STAGE2_RULES,
    ),
)

REWARDS: dict[str, Reward] = {reward.name: reward for reward in _ROWS}
