"""Combinations of flags that OpenRLHF accepts but that would silently train something else; each is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from foundation.errors import InputError
from r1_searcher.host.command import Command
from r1_searcher.recipe.recipe import Recipe
from r1_searcher.reward.parts import searches
from r1_searcher.reward.rewards import Reward


@dataclass(frozen=True)
class Setting:
    """The facts that a combination is judged by."""

    recipe: Recipe
    command: Command
    reward_url: str
    """Where the reward comes from if not from this process; its values are then unknown."""

    def flag(self, name: str) -> object:
        """Value of OpenRLHF's `--name`."""
        return self.command.get(name)

    def given(self, name: str) -> bool:
        """Whether the command line holds `--name`."""
        return any(word.partition("=")[0] == f"--{name}" for word in self.command.argv)

    @property
    def estimator(self) -> str:
        """How advantages are made of rewards."""
        return str(self.flag("algo.advantage.estimator"))


@dataclass(frozen=True)
class Combination:
    """Flags that do not go together."""

    found: Callable[[Setting], bool]
    why: str
    """The training that would happen instead, and what to do."""


def check_combinations(recipe: Recipe, command: Command, reward_url: str = "") -> None:
    """Raise `InputError` for the first combination of `COMBINATIONS` that the command line holds."""
    setting = Setting(recipe, command, reward_url)
    for combination in COMBINATIONS:
        if combination.found(setting):
            raise InputError(combination.why)


def within_unit_interval(rewards: Iterable[Reward]) -> bool:
    """Whether every value that the rewards can take lies in 0..1. Parts do, but for the number of searches."""

    def bounded(reward: Reward) -> bool:
        weights = [weighted.weight for weighted in reward.parts.values()]
        counts = any(weighted.part is searches for weighted in reward.parts.values())
        return not counts and min(weights) >= 0 and sum(weights) <= 1

    return all(bounded(reward) for reward in rewards)


def _discounts(setting: Setting, *names: str) -> bool:
    return any(float(str(setting.flag(f"algo.advantage.{name}"))) != 1.0 for name in names)


def _filters_by_a_range_of_another_reward(setting: Setting) -> bool:
    if not setting.flag("algo.dynamic_filtering_enable") or setting.given("algo.dynamic_filtering_range"):
        return False
    return bool(setting.reward_url) or not within_unit_interval(setting.recipe.rewards)


def _corrects_documents(setting: Setting) -> bool:
    return setting.recipe.train_on_documents and setting.flag("algo.advantage.is_correction_level") != "off"


COMBINATIONS = (
    Combination(
        lambda setting: setting.estimator == "gae" and _discounts(setting, "gamma", "lambd"),
        "GAE needs --algo.advantage.gamma 1 and --algo.advantage.lambd 1: OpenRLHF discounts over every token, "
        "retrieved ones too, with value 0 there, so that each search would look like the end of the episode",
    ),
    Combination(
        lambda setting: setting.estimator == "reinforce" and _discounts(setting, "gamma"),
        "the estimator reinforce needs --algo.advantage.gamma 1: OpenRLHF discounts over every token, retrieved ones "
        "too, so that what precedes a search would get next to nothing",
    ),
    Combination(
        _filters_by_a_range_of_another_reward,
        "filtering needs --algo.dynamic_filtering_range LOW HIGH with a reward that leaves 0..1: OpenRLHF drops "
        "a question whose mean reward is outside of it (default: 0 to 1), whether or not its samples differ",
    ),
    Combination(
        _corrects_documents,
        "--no-document-mask needs --algo.advantage.is_correction_level off: no policy sampled the documents, and the "
        "correction would weigh or drop each of their tokens by its probability",
    ),
    Combination(
        lambda setting: setting.flag("reward.overlong_buffer_len") is not None,
        "--reward.overlong_buffer_len would punish retrieving: OpenRLHF counts the documents between two actions as "
        "length of the response. Take a price per search (--reward with searches=-W), --max-searches or --turn-tokens",
    ),
    Combination(
        lambda setting: setting.flag("algo.kl.target") is not None,
        "--algo.kl.target cannot be used: one episode without trained tokens, which is what a failed search leaves, "
        "makes OpenRLHF's mean KL NaN and with it the coefficient for the rest of the run; give --algo.kl.init_coef",
    ),
)
"""In the order in which they are looked for."""
