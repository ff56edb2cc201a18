"""Rewards: weighted sums of named parts over a finished episode.

A part and a rule are plain functions; a reward is a value that names and weighs them; a system's reward is a row of
`REWARDS`. Each part and each rule is logged under its own name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from foundation.errors import InputError, found_in
from r1_searcher.episode.protocol import Protocol, Rule
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.reward import rules_r1_searcher_code as published
from r1_searcher.reward import rules_research as research_rules
from r1_searcher.reward import rules_search_r1 as search_r1_rules
from r1_searcher.reward.parts import (
    PARTS,
    CheckedEpisode,
    Part,
    answer_score,
    asks_judge,
    breaks,
    gated,
    keeps,
    plus_or_minus,
    retrieved,
)


@dataclass(frozen=True)
class RewardResult:
    """One episode's reward, and how it came about."""

    total: float
    """Sum of the parts."""
    parts: Mapping[str, float]
    """Each part's contribution, its weight included."""
    rules: Mapping[str, bool]
    """Each format rule, and whether it was kept."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """Further metrics under their full names."""

    @property
    def broken(self) -> frozenset[str]:
        """Names of the rules that were not kept."""
        return frozenset(name for name, kept in self.rules.items() if not kept)

    def logs(self) -> dict[str, float]:
        """Metrics `reward/<part>` and `rule/<rule>` (1 kept, 0 broken); the same keys every time."""
        return {
            **self.notes,
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
    """A weighted sum of named parts."""

    name: str
    citation: str
    """Where it is published, and how it differs."""
    parts: Mapping[str, WeightedPart]
    rules: Mapping[str, Rule] | None = None
    """Rules of its own, of a reward that mirrors published code; None: the format of the protocol it is used with."""

    def rules_under(self, protocol: Protocol) -> Mapping[str, Rule]:
        """The format rules of episodes in this protocol."""
        return protocol.format if self.rules is None else self.rules

    @property
    def asks_judge(self) -> bool:
        """Whether a part is the verdict of a language model."""
        return any(asks_judge(weighted.part) for weighted in self.parts.values())

    @property
    def without_judge(self) -> str:
        """What to say where no judge is asked; nothing of a reward that asks none."""
        return f"{self.name}: no judge is asked here; exact match stands in for its verdict" if self.asks_judge else ""


def score(reward: Reward, trajectory: Trajectory, protocol: Protocol, judged_right: bool | None = None) -> RewardResult:
    """The reward of one episode; `judged_right` is the judge's verdict for a reward that asks one.

    An episode whose search or agent failed gets the neutral reward, see `neutral`.
    """
    rules = reward.rules_under(protocol)
    if trajectory.failed:
        return neutral(reward.parts, rules)
    kept = {name: rule(trajectory, protocol) for name, rule in rules.items()}
    episode = CheckedEpisode(trajectory, protocol, kept, judged_right)
    # "+ 0.0": a negative weight on a part of 0 would be logged as -0.0.
    parts = {name: weighted.weight * weighted.part(episode) + 0.0 for name, weighted in reward.parts.items()}
    return RewardResult(sum(parts.values()), parts, kept)


def neutral(parts: Iterable[str], rules: Iterable[str]) -> RewardResult:
    """The reward of an episode whose search or agent failed: total 0, every part 0, every rule kept.

    Nothing of it counts for or against the policy; the executor masks its tokens and logs its stop reason.
    """
    return RewardResult(0.0, dict.fromkeys(parts, 0.0), dict.fromkeys(rules, True))


def compose(text: str) -> Reward:
    """The reward `part=weight,part=weight,…` over `PARTS`.

    `format_kept` and `format_broken` are about the format of the protocol that it is used with.

    Raises:
        InputError: an unknown part, a weight that is no number, or weights that are all 0.
    """
    parts: dict[str, WeightedPart] = {}
    for item in text.split(","):
        name, _, weight = (word.strip() for word in item.partition("="))
        if name not in PARTS:
            raise InputError(f"unknown part {name!r} in the reward {text!r}; known: {', '.join(PARTS)}")
        if name in parts:
            raise InputError(f"the reward {text!r} names the part {name!r} twice")
        parts[name] = WeightedPart(_weight(weight, text), PARTS[name])
    if not any(weighted.weight for weighted in parts.values()):
        raise InputError(f"the reward {text!r} is 0 for every episode: at least one weight must not be 0")
    return Reward(name=text, citation="composed by the user", parts=parts)


def _weight(written: str, text: str) -> float:
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise InputError(f"a weight in the reward {text!r} must be a number, found {written!r}")
    return weight


def find_reward(name: str) -> Reward:
    """The reward of this name, or the one that is composed by it where it holds `=`.

    Raises:
        InputError: naming the known ones.
    """
    return compose(name) if "=" in name else found_in(REWARDS, "reward", name)


_ROWS = (
    Reward(
        name="r1_searcher.stage1",
        citation="R1-Searcher, paper, stage 1: 0.5 for retrieving, 0.5 for format. 0..1",
        parts={"retrieval": WeightedPart(0.5, retrieved), "format": WeightedPart(0.5, keeps())},
    ),
    Reward(
        name="r1_searcher.stage2",
        citation="R1-Searcher, paper, stage 2: F1 of the answer, -2 once if any format rule is broken. -2..1",
        parts={"answer": WeightedPart(1.0, answer_score("r1_searcher.f1")), "format": WeightedPart(-2.0, breaks())},
    ),
    Reward(
        name="r1_searcher.stage2_em",
        citation="R1-Searcher, paper, ablation of the answer reward: +-1 for exact match. -3..1",
        parts={
            "answer": WeightedPart(1.0, plus_or_minus(answer_score("r1_searcher.em"))),
            "format": WeightedPart(-2.0, breaks()),
        },
    ),
    Reward(
        name="r1_searcher.stage2_cover_em",
        citation="R1-Searcher, paper, ablation of the answer reward: cover-EM. -2..1",
        parts={
            "answer": WeightedPart(1.0, answer_score("r1_searcher.cover_em")),
            "format": WeightedPart(-2.0, breaks()),
        },
    ),
    Reward(
        name="r1_searcher.base_code",
        citation="R1-Searcher, reward_server_qwen_zero.py: stage 2 with rules on the whole completion. -2..1",
        parts={
            "answer": WeightedPart(1.0, published.answer_f1),
            "format": WeightedPart(-2.0, breaks()),
        },
        rules=published.BASE_RULES,
    ),
    Reward(
        name="r1_searcher.llama_stage1_code",
        citation="R1-Searcher, reward_server_llama_stage1.py: +-1 for cover-EM (not in the paper), "
        "0.5 for retrieving, 0.5 for think and answer tags. -1..2",
        parts={
            "answer": WeightedPart(1.0, published.answer_covered),
            "retrieval": WeightedPart(0.5, keeps(["documents_present"])),
            "format": WeightedPart(0.5, keeps(published.LLAMA_STAGE1_TAG_RULES)),
        },
        rules={**published.LLAMA_STAGE1_TAG_RULES, "documents_present": published.documents_present},
    ),
    Reward(
        name="r1_searcher.llama_stage2_code",
        citation="R1-Searcher, reward_server_llama_stage2.py: F1, -1 (paper: -2) if a check fails. -1..1",
        parts={
            "answer": WeightedPart(1.0, published.answer_f1),
            "format": WeightedPart(-1.0, breaks()),
        },
        rules=published.LLAMA_STAGE2_RULES,
    ),
    Reward(
        name="search_r1.em",
        citation="Search-R1, qa_em.py: exact match after SQuAD's normalisation, any gold. 0..1",
        parts={"answer": WeightedPart(1.0, answer_score("squad.em"))},
    ),
    Reward(
        name="search_r1.format",
        citation="Search-R1, qa_em_format.py with the values of v0.3 (structure 0.2, final 0.1, retrieval 0). 0..1",
        parts={"outcome": WeightedPart(1.0, search_r1_rules.outcome(structure=0.2, final=0.1, retrieval=0.0))},
    ),
    Reward(
        name="research.code",
        citation="ReSearch, re_search.py: 0 for a bad format or a cut episode, else F1, else 0.1. 0..1",
        parts={"outcome": WeightedPart(1.0, research_rules.code_outcome)},
    ),
    Reward(
        name="research.paper",
        citation="ReSearch, paper: F1 whatever the format where it is above 0, else 0.1 for a good format. 0..1",
        parts={"outcome": WeightedPart(1.0, research_rules.paper_outcome)},
    ),
    Reward(
        name="zerosearch.f1",
        citation="ZeroSearch: F1 after SQuAD's normalisation, no format reward. 0..1",
        parts={"answer": WeightedPart(1.0, answer_score("squad.f1"))},
    ),
    Reward(
        name="zerosearch.containment",
        citation="ZeroSearch's 'EM': a gold is a substring of the answer. 0..1",
        parts={"answer": WeightedPart(1.0, answer_score("squad.substring"))},
    ),
    Reward(
        name="deep_researcher.set_f1",
        citation="DeepResearcher, format_and_f1.py: F1 over sets of words, -1 for a bad format. -1..1",
        parts={
            "answer": WeightedPart(1.0, gated(answer_score("deep_researcher.set_f1"))),
            "format": WeightedPart(-1.0, breaks()),
        },
    ),
)

REWARDS: dict[str, Reward] = {reward.name: reward for reward in _ROWS}
