"""Recipes: one protocol, one reward, one set of limits each. Systems are rows of `RECIPES`.

A recipe is what the episodes of a run are. How the policy is optimised (batch, learning rate, estimator …) are
OpenRLHF's flags; they stand in `train_scripts` with their sources.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.recipe.schedule import Switch
from r1_searcher.reward.rewards import Reward, find_reward


@dataclass(frozen=True)
class Recipe:
    """Protocol × reward × limits, by name."""

    name: str
    protocol: str
    reward: str
    limits: Limits
    train_on_documents: bool = False
    """True trains retrieved tokens as if the policy had written them: the ablation that shows what the mask does."""
    then_reward: str = ""
    """Reward of a second stage in the same run; empty: there is one stage."""
    switch: str = ""
    """When the second stage begins, as `Switch.parse` reads it."""
    prompt: str = ""
    """A user's text instead of the protocol's prompt, with `{question}` in it."""
    system_prompt: str = ""
    """A user's text instead of the protocol's system message."""

    def __post_init__(self) -> None:
        find_protocol(self.protocol)
        find_reward(self.reward)
        if bool(self.then_reward) != bool(self.switch):
            raise InputError(
                f"a second reward and the switch to it belong together; found {self.then_reward!r} and {self.switch!r}"
            )
        if self.then_reward:
            find_reward(self.then_reward)
            Switch.parse(self.switch)
        if self.prompt and self.prompt.count("{question}") != 1:
            raise InputError(f"a prompt must hold {{question}} once, found it {self.prompt.count('{question}')} times")

    def with_prompts(self, prompt_file: Path | None, system_prompt_file: Path | None = None) -> Recipe:
        """The recipe with the texts of these files; without a file it keeps its own.

        Raises:
            InputError: a file cannot be read, or holds no `{question}`.
        """
        prompt = _text_of(prompt_file) if prompt_file else self.prompt
        system = _text_of(system_prompt_file) if system_prompt_file else self.system_prompt
        return dataclasses.replace(self, prompt=prompt, system_prompt=system)

    @property
    def protocol_spec(self) -> Protocol:
        """The protocol itself."""
        protocol = find_protocol(self.protocol)
        return dataclasses.replace(
            protocol,
            prompt_override=self.prompt or protocol.prompt_override,
            system_override=self.system_prompt or protocol.system_override,
        )

    @property
    def switch_spec(self) -> Switch | None:
        """The switch to the second stage, where there is one."""
        return Switch.parse(self.switch) if self.switch else None

    @property
    def reward_spec(self) -> Reward:
        """The reward itself; of two stages, the first one's."""
        return self.stages[0]

    @property
    def stages(self) -> tuple[Reward, ...]:
        """The rewards of all stages, in order."""
        names = [self.reward, self.then_reward] if self.then_reward else [self.reward]
        return tuple(find_reward(name, self.protocol) for name in names)

    def to_mapping(self) -> dict[str, Any]:
        """As JSON; `from_mapping` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_mapping` wrote."""
        return cls(**{**mapping, "limits": Limits(**mapping["limits"])})


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the prompt file {file}: {error}") from error


# R1-Searcher's rollout: 8 searches, 512 new tokens per turn, top-k 3. Its code checks no total length; 8 blocks of
# documents and 9 turns have to fit somewhere.
_R1_SEARCHER = Limits(max_searches=8, turn_tokens=512, max_length=12288, top_k=3, answer_tokens=256)
# The limits that the tiny world was measured with; at most two facts have to be combined.
_TINY = Limits(max_searches=4, turn_tokens=48, max_length=384, top_k=2, answer_tokens=32)

# Search-R1: action budget 4 (paper, v0.2 and v0.3 scripts), 500 tokens per turn and per block, prompts up to 2048.
_SEARCH_R1 = Limits(
    max_searches=4, turn_tokens=500, max_length=2048 + 9 * 500, top_k=3, answer_tokens=256, document_tokens=500
)
# ReSearch: prompt 512 and 8192 tokens after it, searches limited by them alone; top 5.
_RESEARCH = Limits(max_searches=None, turn_tokens=8192, max_length=512 + 8192, top_k=5, answer_tokens=256)
# ZeroSearch: 5 turns, five documents of a simulator (up to 2048 tokens), 500 tokens per turn, prompts up to 4096.
_ZEROSEARCH = Limits(
    max_searches=5, turn_tokens=500, max_length=4096 + 6 * 500 + 5 * 2048, top_k=5, answer_tokens=256,
    document_tokens=2048,
)  # fmt: skip
# DeepResearcher: 10 turns of 2000 tokens, ten results per query, model length 32768.
_DEEP_RESEARCHER = Limits(max_searches=9, turn_tokens=2000, max_length=32768, top_k=10, answer_tokens=2000)
_TINY_TOOLS = dataclasses.replace(_TINY, turn_tokens=64, max_length=512)

_ROWS = (
    Recipe("r1_searcher.base.stage1", "r1_searcher.base", "r1_searcher.stage1", _R1_SEARCHER),
    Recipe("r1_searcher.base.stage2", "r1_searcher.base", "r1_searcher.stage2", _R1_SEARCHER),
    Recipe("r1_searcher.chat.stage1", "r1_searcher.chat", "r1_searcher.stage1", _R1_SEARCHER),
    Recipe("r1_searcher.chat.stage2", "r1_searcher.chat", "r1_searcher.stage2", _R1_SEARCHER),
    # Both stages in one run; how long the rates must hold is ours, no paper has this.
    Recipe(
        "r1_searcher.base.auto",
        "r1_searcher.base",
        "r1_searcher.stage1",
        _R1_SEARCHER,
        then_reward="r1_searcher.stage2",
        switch="held:3",
    ),  # fmt: skip
    Recipe("search_r1", "search_r1", "search_r1.em", _SEARCH_R1),
    Recipe("search_r1.format", "search_r1", "search_r1.format", _SEARCH_R1),
    Recipe("research.base", "research.base", "research.code", _RESEARCH),
    Recipe("research.chat", "research.chat", "research.code", _RESEARCH),
    Recipe("zerosearch", "zerosearch", "zerosearch.f1", _ZEROSEARCH),
    Recipe("deep_researcher", "deep_researcher", "deep_researcher.set_f1", _DEEP_RESEARCHER),
    Recipe("deep_researcher.rag", "deep_researcher.rag", "deep_researcher.set_f1", _DEEP_RESEARCHER),
    Recipe("tiny.stage1", "r1_searcher.tiny", "r1_searcher.stage1", _TINY),
    Recipe("tiny.stage2", "r1_searcher.tiny", "r1_searcher.stage2", _TINY),
    Recipe(
        "tiny.auto", "r1_searcher.tiny", "r1_searcher.stage1", _TINY, then_reward="r1_searcher.stage2", switch="held:3"
    ),
    Recipe("tiny.search_r1", "search_r1.tiny", "search_r1.em", _TINY),
    Recipe("tiny.search_r1.format", "search_r1.tiny", "search_r1.format", _TINY),
    Recipe("tiny.research", "research.tiny", "research.code", _TINY),
    Recipe("tiny.zerosearch", "zerosearch.tiny", "zerosearch.f1", _TINY),
    Recipe("tiny.deep_researcher", "deep_researcher.tiny", "deep_researcher.set_f1", _TINY_TOOLS),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ROWS}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises `InputError` naming the known ones."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
