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

import msgspec

from foundation.errors import InputError, found_in
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.protocol import Protocol
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.recipe.protocols import PROTOCOLS, find_protocol
from r1_searcher.recipe.schedule import Switch
from r1_searcher.reward.rewards import REWARDS, Reward, find_reward


@dataclass(frozen=True)
class Recipe:
    """A system: protocol × reward × limits."""

    name: str
    protocol: Protocol
    reward: Reward
    limits: Limits
    train_on_documents: bool = False
    """True trains retrieved tokens as if the policy had written them: the ablation that shows what the mask does."""
    then_reward: Reward | None = None
    """Reward of a second stage in the same run; None: there is one stage."""
    switch: Switch | None = None
    """When the second stage begins."""
    agent: OwnAgent | None = None
    """The user's own agent, which plays the episodes; None: the built-in loop does. Of the protocol it takes the start
    of the policy's turns (`prefill`); the reward reads the rest."""

    def __post_init__(self) -> None:
        if (self.then_reward is None) != (self.switch is None):
            second = "" if self.then_reward is None else self.then_reward.name
            raise InputError(
                "a second reward and the switch to it belong together; "
                f"found {second!r} and {'' if self.switch is None else str(self.switch)!r}"
            )

    def with_prompts(self, prompt_file: Path | None, system_prompt_file: Path | None = None) -> Recipe:
        """The recipe with the texts of these files; without a file it keeps its own.

        An empty file in place of the system message leaves it out, for templates that know none.

        Raises:
            InputError: a file cannot be read, or does not hold `{question}` once.
        """
        prompt = _text_of(prompt_file) if prompt_file else self.protocol.prompt
        system_prompt = _text_of(system_prompt_file) if system_prompt_file else self.protocol.system_prompt
        protocol = dataclasses.replace(self.protocol, prompt=prompt, system_prompt=system_prompt)
        return dataclasses.replace(self, protocol=protocol)

    @property
    def own_prompts(self) -> dict[str, str]:
        """`prompt` and `system_prompt` where they are not the texts of the protocol of this name."""
        published = find_protocol(self.protocol.name)
        texts = {name: getattr(self.protocol, name) for name in ("prompt", "system_prompt")}
        return {name: text for name, text in texts.items() if text != getattr(published, name)}

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards of all stages, in order."""
        return (self.reward,) if self.then_reward is None else (self.reward, self.then_reward)

    def to_mapping(self) -> dict[str, Any]:
        """As JSON: protocol and rewards by name, texts of the user's own in full; `from_mapping` reads it back."""
        return {
            "name": self.name,
            "protocol": self.protocol.name,
            "reward": self.reward.name,
            "limits": dataclasses.asdict(self.limits),
            "train_on_documents": self.train_on_documents,
            "then_reward": "" if self.then_reward is None else self.then_reward.name,
            "switch": "" if self.switch is None else str(self.switch),
            "prompt": "",
            "system_prompt": "",
            **{name: text or None for name, text in self.own_prompts.items()},  # null: none; empty: the published one
            **({} if self.agent is None else {"agent": dataclasses.asdict(self.agent)}),
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_mapping` wrote.

        Raises:
            InputError: its protocol or a reward is not known here.
            TypeError: a value is missing or of another type; the message names it.
        """
        try:
            written = msgspec.convert(mapping, _Written)
        except msgspec.ValidationError as error:
            raise TypeError(str(error)) from error
        published = find_protocol(written.protocol)
        system_prompt = published.system_prompt if written.system_prompt == "" else written.system_prompt or ""
        return cls(
            name=written.name,
            protocol=dataclasses.replace(
                published, prompt=written.prompt or published.prompt, system_prompt=system_prompt
            ),
            reward=find_reward(written.reward),
            limits=written.limits,
            train_on_documents=written.train_on_documents,
            then_reward=find_reward(written.then_reward) if written.then_reward else None,
            switch=Switch.parse(written.switch) if written.switch else None,
            agent=written.agent,
        )


class _Written(msgspec.Struct):
    """What `Recipe.to_mapping` gives, with what the files of earlier versions leave out."""

    name: str
    protocol: str
    reward: str
    limits: Limits
    train_on_documents: bool = False
    then_reward: str | None = None
    switch: str | None = None
    prompt: str | None = None
    system_prompt: str | None = ""
    agent: OwnAgent | None = None


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

# For models of some hundred million parameters on real text, on CPUs: two hops, and one search to spare. Ours.
_SMALL = Limits(max_searches=3, turn_tokens=64, max_length=1400, top_k=2)

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
    Recipe("r1_searcher.base.stage1", PROTOCOLS["r1_searcher.base"], REWARDS["r1_searcher.stage1"], _R1_SEARCHER),
    Recipe("r1_searcher.base.stage2", PROTOCOLS["r1_searcher.base"], REWARDS["r1_searcher.stage2"], _R1_SEARCHER),
    Recipe("r1_searcher.chat.stage1", PROTOCOLS["r1_searcher.chat"], REWARDS["r1_searcher.stage1"], _R1_SEARCHER),
    Recipe("r1_searcher.chat.stage2", PROTOCOLS["r1_searcher.chat"], REWARDS["r1_searcher.stage2"], _R1_SEARCHER),
    # Both stages in one run; how long the rates must hold is ours, no paper has this.
    Recipe(
        "r1_searcher.base.auto",
        PROTOCOLS["r1_searcher.base"],
        REWARDS["r1_searcher.stage1"],
        _R1_SEARCHER,
        then_reward=REWARDS["r1_searcher.stage2"],
        switch=Switch(held=3),
    ),
    Recipe("small.stage1", PROTOCOLS["r1_searcher.chat"], REWARDS["r1_searcher.stage1"], _SMALL),
    Recipe("small.stage2", PROTOCOLS["r1_searcher.chat"], REWARDS["r1_searcher.stage2"], _SMALL),
    Recipe("search_r1", PROTOCOLS["search_r1"], REWARDS["search_r1.em"], _SEARCH_R1),
    Recipe("search_r1.format", PROTOCOLS["search_r1"], REWARDS["search_r1.format"], _SEARCH_R1),
    Recipe("research.base", PROTOCOLS["research.base"], REWARDS["research.code"], _RESEARCH),
    Recipe("research.chat", PROTOCOLS["research.chat"], REWARDS["research.code"], _RESEARCH),
    Recipe("zerosearch", PROTOCOLS["zerosearch"], REWARDS["zerosearch.f1"], _ZEROSEARCH),
    Recipe("deep_researcher", PROTOCOLS["deep_researcher"], REWARDS["deep_researcher.set_f1"], _DEEP_RESEARCHER),
    Recipe(
        "deep_researcher.rag", PROTOCOLS["deep_researcher.rag"], REWARDS["deep_researcher.set_f1"], _DEEP_RESEARCHER
    ),
    # For an agent of the user's own: F1, no format.
    Recipe("own_agent", PROTOCOLS["own_agent"], REWARDS["zerosearch.f1"], _R1_SEARCHER),
    Recipe("tiny.stage1", PROTOCOLS["r1_searcher.tiny"], REWARDS["r1_searcher.stage1"], _TINY),
    Recipe("tiny.stage2", PROTOCOLS["r1_searcher.tiny"], REWARDS["r1_searcher.stage2"], _TINY),
    Recipe(
        "tiny.auto",
        PROTOCOLS["r1_searcher.tiny"],
        REWARDS["r1_searcher.stage1"],
        _TINY,
        then_reward=REWARDS["r1_searcher.stage2"],
        switch=Switch(held=3),
    ),
    Recipe("tiny.search_r1", PROTOCOLS["search_r1.tiny"], REWARDS["search_r1.em"], _TINY),
    Recipe("tiny.search_r1.format", PROTOCOLS["search_r1.tiny"], REWARDS["search_r1.format"], _TINY),
    Recipe("tiny.research", PROTOCOLS["research.tiny"], REWARDS["research.code"], _TINY),
    Recipe("tiny.zerosearch", PROTOCOLS["zerosearch.tiny"], REWARDS["zerosearch.f1"], _TINY),
    Recipe("tiny.deep_researcher", PROTOCOLS["deep_researcher.tiny"], REWARDS["deep_researcher.set_f1"], _TINY_TOOLS),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ROWS}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises `InputError` naming the known ones."""
    return found_in(RECIPES, "recipe", name)
