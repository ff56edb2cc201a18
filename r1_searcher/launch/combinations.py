"""Combinations of flags that OpenRLHF accepts but that would silently train something else; each is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    counts_progress: bool
    """Whether the run's episodes depend on how far it is."""

    def flag(self, name: str) -> object:
        """Value of OpenRLHF's `--name`."""
        return self.command.get(name)

    @property
    def estimator(self) -> str:
        """How advantages are made of rewards."""
        return str(self.flag("algo.advantage.estimator"))


@dataclass(frozen=True)
class Combination:
    """Flags that do not go together."""

    found: Callable[[Setting], bool]
    why: str
    """The training that would happen instead, and what to do; `%(name)s` is the value of OpenRLHF's `--name`."""


def check_combinations(
    recipe: Recipe, command: Command, reward_url: str = "", *, counts_progress: bool = False
) -> None:
    """Raise `InputError` for the first combination of `COMBINATIONS` that the command line holds."""
    setting = Setting(recipe, command, reward_url, counts_progress)
    for combination in COMBINATIONS:
        if combination.found(setting):
            raise InputError(combination.why % vars(command.flags))


def bounds(reward: Reward, most_queries: float) -> tuple[float, float]:
    """Lowest and highest value that a reward can take. Parts lie in 0..1, but for the number of queries."""
    ends = [
        weighted.weight * most_queries if weighted.part is searches and weighted.weight else weighted.weight
        for weighted in reward.parts.values()
    ]
    return sum(min(end, 0.0) for end in ends), sum(max(end, 0.0) for end in ends)


def most_queries(recipe: Recipe) -> float:
    """The queries of one episode at most: a call of a tool may hold several."""
    calls = recipe.limits.max_searches
    per_call = max((tool.max_items for tool in recipe.protocol.tools), default=1)
    return math.inf if calls is None else float(calls * per_call)


def _discounts(setting: Setting, *names: str) -> bool:
    return any(float(str(setting.flag(f"algo.advantage.{name}"))) != 1.0 for name in names)


def _clips_rewards(setting: Setting) -> bool:
    """Whether a difference of two rewards, or a reward where none is subtracted, may leave the host's range."""
    if setting.reward_url or setting.estimator == "group_norm":  # which divides by the standard deviation
        return False
    least, most = setting.command.pair("reward.clip_range")
    found = [bounds(reward, most_queries(setting.recipe)) for reward in setting.recipe.rewards]
    if setting.estimator in _COMPARING:
        found = [(low - high, high - low) for low, high in found]
    return any(low < least or high > most for low, high in found if math.isfinite(high - low))


def _loses_gradients(setting: Setting) -> bool:
    return bool(setting.flag("train.dynamic_batch_enable")) and setting.command.number("ds.zero_stage") < 3


def _draws_more_than_a_step(setting: Setting) -> bool:
    drawn, trained = map(setting.command.number, ("rollout.vllm_generate_batch_size", "rollout.batch_size"))
    return drawn > trained


def _would_skip_questions(setting: Setting) -> bool:
    """Whether a resumed run would: OpenRLHF saves its place in the data, but not what it has drawn and not trained."""
    saves = setting.command.number("ckpt.save_steps") > 0 and not setting.flag("ckpt.disable_ds")
    return saves and _draws_more_than_a_step(setting)


_COMPARING = ("rloo", "reinforce_baseline", "dr_grpo", "flash_reinforce")
"""Estimators that subtract the mean reward of other samples."""

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
        lambda setting: setting.flag("reward.overlong_buffer_len") is not None,
        "--reward.overlong_buffer_len would punish retrieving: OpenRLHF counts the documents between two actions as "
        "length of the response. Take a price per search (--reward with searches=-W), --max-searches or --turn-tokens",
    ),
    Combination(
        lambda setting: setting.flag("reward.stop_properly_penalty_coef") is not None,
        "--reward.stop_properly_penalty_coef would punish retrieving: an episode whose documents no longer fit counts "
        "as cut off, too; and it moves rewards off the grid on which equal ones get no gradient. Take a price per "
        "search (--reward with searches=-W) or --max-searches",
    ),
    Combination(
        _clips_rewards,
        "OpenRLHF cuts rewards, after it has subtracted their mean, to --reward.clip_range (default: -10 to 10), which "
        "this reward leaves: give smaller weights or a wider --reward.clip_range LOW HIGH",
    ),
    Combination(
        lambda setting: setting.command.given("rollout.max_new_tokens"),
        "--rollout.max_new_tokens has no effect: the recipe's limits say how long a turn may be; give --turn-tokens",
    ),
    Combination(
        lambda setting: bool(setting.flag("eval.dataset")),
        "--eval.dataset cannot be used: its episodes would count as training's, in steps and in the log; evaluate "
        "checkpoints with python -m eval.run",
    ),
    Combination(
        lambda setting: setting.counts_progress and _draws_more_than_a_step(setting),
        "--rollout.vllm_generate_batch_size above --rollout.batch_size does not go with --switch or a curriculum: "
        "OpenRLHF trains on such questions in the order in which they end, so that none knows its step when it begins",
    ),
    Combination(
        _would_skip_questions,
        "--rollout.vllm_generate_batch_size %(rollout.vllm_generate_batch_size)s above --rollout.batch_size "
        "%(rollout.batch_size)s does not go with --ckpt.save_steps %(ckpt.save_steps)s: OpenRLHF's checkpoints count "
        "the questions that wait for the next step as trained, and a resumed run would skip them. Draw no more than a "
        "step, or give --ckpt.save_steps -1",
    ),
    Combination(
        _loses_gradients,
        "--train.dynamic_batch_enable needs --ds.zero_stage 3: OpenRLHF then calls backward several times per step, "
        "and the installed DeepSpeed keeps the last call's gradients only in stages 1 and 2, so that most of a batch "
        "would not be trained on",
    ),
    Combination(
        lambda setting: setting.flag("algo.kl.target") is not None,
        "--algo.kl.target cannot be used: an episode without trained tokens, which is what a failed search leaves, "
        "counts in OpenRLHF's mean KL as one without distance and moves the coefficient; give --algo.kl.init_coef",
    ),
)
"""In the order in which they are looked for."""
