"""Recipes: one protocol, one reward, one set of limits each.  Systems are rows of :data:`RECIPES`.

A recipe is what the episodes of a run are.  How the policy is optimised (batch, learning rate, estimator …) are
OpenRLHF's flags; they stand in ``train_scripts`` with their sources.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_searcher.errors import InputError
from r1_searcher.limits import Limits
from r1_searcher.protocol import PROTOCOLS, Protocol
from r1_searcher.rewards import REWARDS, Reward


@dataclass(frozen=True)
class Recipe:
    """Protocol × reward × limits, by name."""

    name: str
    protocol: str
    reward: str
    limits: Limits
    train_on_documents: bool = False
    """True trains retrieved tokens as if the policy had written them: the ablation that shows what the mask does."""

    def __post_init__(self) -> None:
        for kind, key, table in (("protocol", self.protocol, PROTOCOLS), ("reward", self.reward, REWARDS)):
            if key not in table:
                raise InputError(f"unknown {kind} {key!r}; known: {', '.join(table)}")

    @property
    def protocol_spec(self) -> Protocol:
        """The protocol itself."""
        return PROTOCOLS[self.protocol]

    @property
    def reward_spec(self) -> Reward:
        """The reward itself."""
        return REWARDS[self.reward]

    def to_mapping(self) -> dict[str, Any]:
        """As JSON; :meth:`from_mapping` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Recipe:
        """The recipe that :meth:`to_mapping` wrote."""
        return cls(**{**mapping, "limits": Limits(**mapping["limits"])})


# R1-Searcher's rollout: 8 searches, 512 new tokens per turn, top-k 3.  Its code checks no total length; 8 blocks of
# documents and 9 turns have to fit somewhere.
_R1_SEARCHER = Limits(max_searches=8, turn_tokens=512, max_length=12288, top_k=3, answer_tokens=256)
# The limits that the tiny world was measured with; at most two facts have to be combined.
_TINY = Limits(max_searches=4, turn_tokens=48, max_length=384, top_k=2, answer_tokens=32)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("r1_searcher.base.stage1", "r1_searcher.base", "r1_searcher.stage1", _R1_SEARCHER),
        Recipe("r1_searcher.base.stage2", "r1_searcher.base", "r1_searcher.stage2", _R1_SEARCHER),
        Recipe("r1_searcher.chat.stage1", "r1_searcher.chat", "r1_searcher.stage1", _R1_SEARCHER),
        Recipe("r1_searcher.chat.stage2", "r1_searcher.chat", "r1_searcher.stage2", _R1_SEARCHER),
        Recipe("tiny.stage1", "r1_searcher.tiny", "r1_searcher.stage1", _TINY),
        Recipe("tiny.stage2", "r1_searcher.tiny", "r1_searcher.stage2", _TINY),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name.  Raises ``InputError`` naming the known ones."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
