"""The configuration of one training run: written once into its folder, read by every process of it."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_type_hints

import msgspec

from foundation.chat.endpoint import EndpointConfig
from foundation.errors import InputError
from foundation.files import read_json, write_json
from r1_searcher.recipe.plugins import load_plugin
from r1_searcher.recipe.recipe import Recipe
from r1_searcher.run.episode_log import RunAttempt
from retriever.sources import follows_progress

RUN_VARIABLE = "R1_SEARCHER_RUN"
"""Names the file of the run's configuration to processes that the host starts without arguments of ours."""

_ONE_PLUGIN = "plugin"
"""Key of earlier versions, which took one plugin."""
_NO_LONGER = ("episodes_per_step", "engines", "kept_rewards")
"""What run folders of earlier versions say beside today's fields."""


def plugins_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The plugins that a run or an evaluation names in its settings."""
    earlier = settings.get(_ONE_PLUGIN)
    return (*settings.get("plugins", ()), *([earlier] if earlier else []))


@dataclass(frozen=True)
class RetrieverConfig:
    """How episodes reach the search service."""

    source: str
    """As `retriever.sources.open_retriever` reads it; a plain URL is a search service over HTTP."""
    browse: str = ""
    """The same for reading pages, for protocols that can; empty: none."""
    read_timeout: float = 30.0
    """Seconds for one answer."""
    attempts: int = 4
    """Tries of one search, with growing pauses."""
    deadline: float = 60.0
    """Seconds for one search, all tries together."""
    outage_seconds: float = 600.0
    """Longest outage that training waits out before the run ends; see `r1_searcher.run.outage`."""
    corpus: str = ""
    """SHA-256 of the passages that it searches, as the service itself says; empty where it does not."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RetrieverConfig:
        """The configuration from its JSON object; earlier versions called the source `url`."""
        written = msgspec.convert(mapping, dict[str, Any])
        return msgspec.convert({"source" if name == "url" else name: value for name, value in written.items()}, cls)


@dataclass(frozen=True)
class JudgeConfig:
    """The language model that judges answers, for rewards that ask one."""

    url: str
    """Address of an OpenAI-compatible endpoint."""
    model: str
    timeout: float = 30.0
    """Seconds of one attempt."""
    key_variable: str = ""
    """Environment variable of its key; see `foundation.chat.endpoint.EndpointConfig`."""

    @property
    def endpoint(self) -> EndpointConfig:
        """How it is asked. Raises `InputError` for an address that cannot be used, or not with this key."""
        return EndpointConfig(self.url, self.model, self.key_variable, self.timeout)


@dataclass(frozen=True)
class QuestionFilter:
    """Which questions of a rollout are trained on; others are drawn in place of the rest (DAPO, arXiv:2503.14476)."""

    between: tuple[float, float] | None = None
    """OpenRLHF's own rule: the mean reward of the samples is above the first and below the second number.

    None: the rewards differ, as verl's `filter_groups` asks of them. Samples of equal reward teach nothing.
    """

    def keeps(self, rewards: Sequence[float]) -> bool:
        """Whether a question is trained on whose samples have these rewards, at least one."""
        if self.between is None:
            return min(rewards) < max(rewards)
        return self.between[0] < fmean(rewards) < self.between[1]


def depends_on_progress(recipe: Recipe, source: str | None) -> bool:
    """Whether a run's episodes depend on how far it is: a switch of rewards, or a curriculum of the search engine.

    Raises:
        ValueError: the search source has an unknown scheme.
    """
    return recipe.switch is not None or (source is not None and follows_progress(source))


def _of_type(name: str, value: object, kinds: Mapping[str, Any]) -> Any:
    """The value as what the field of this name holds. Raises `TypeError` naming it, where it is something else."""
    try:
        return msgspec.convert(value, kinds.get(name, Any))
    except msgspec.ValidationError as error:
        raise TypeError(f"{name}: {error}") from error


@dataclass(frozen=True)
class RunConfig:
    """One attempt at a run; a resumed run writes it anew."""

    run_dir: str
    recipe: Recipe
    retriever: RetrieverConfig
    reward_url: str = ""
    """Empty: rewards in the rollout process. Else a `reward_func` file or the URL of a reward server."""
    first_step: int = 0
    """Global step of the checkpoint that this attempt starts from."""
    earlier_attempts: tuple[int, ...] = ()
    """The same of each attempt before it, in their order."""
    questions_per_step: int = 1
    """`--rollout.batch_size`."""
    questions_per_pass: int = 1
    """Questions of one pass over the data, a multiple of those of a step."""
    question_filter: QuestionFilter | None = None
    """None: every question is trained on."""
    samples_per_question: int = 1
    """Episodes of one question that are compared with each other (`--rollout.n_samples_per_prompt`)."""
    total_steps: int = 0
    """Global steps of the whole run."""
    optimizer_steps: int = 0
    """Updates of the weights over the whole run."""
    engine_slots: int = 128
    """Episodes that an engine may play at the same time."""
    logged_share: float = 1.0
    """Of each step's questions, whose episodes are kept; see `logs`."""
    judge: JudgeConfig | None = None
    plugins: tuple[str, ...] = ()
    """Files and modules with systems of the user's own; see `r1_searcher.recipe.plugins`."""

    @property
    def attempt(self) -> RunAttempt:
        """This attempt, by its number."""
        return RunAttempt(len(self.earlier_attempts) + 1, self.first_step)

    @property
    def counts_progress(self) -> bool:
        """Whether the run's episodes depend on how far it is."""
        return depends_on_progress(self.recipe, self.retriever.source)

    def logs(self, step: int, question: str) -> bool:
        """Whether the episodes of a question are kept: all of a group or none, other questions in other steps."""
        return random.Random(f"{step} {question}").random() < self.logged_share

    def write(self, path: Path) -> None:
        """Write the file that `read` reads. Only the user can read it, since an address may hold a key."""
        write_json(path, msgspec.to_builtins({**vars(self), "recipe": self.recipe.to_mapping()}), private=True)

    @classmethod
    def read(cls, path: str | Path) -> RunConfig:
        """Read a run's configuration. Raises `InputError` where it is missing, damaged, or cannot be used here."""
        mapping = read_json(Path(path))
        try:
            return cls.from_mapping(mapping)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is no configuration of a run ({error!r}); training writes it anew") from error

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RunConfig:
        """The configuration from its JSON object. Loads its plugins, whose rows the recipe may name.

        Raises:
            KeyError: there is no recipe, or no retriever.
            TypeError, ValueError: a value is of another type, or of no field; the message names it.
        """
        plugins = plugins_of(mapping)
        for plugin in plugins:
            load_plugin(plugin)
        built: dict[str, Any] = {
            "recipe": Recipe.from_mapping(mapping["recipe"]),
            "retriever": RetrieverConfig.from_mapping(mapping["retriever"]),
        }
        kinds = get_type_hints(cls)
        given = {name: value for name, value in mapping.items() if name not in (*built, _ONE_PLUGIN, *_NO_LONGER)}
        plain = {name: _of_type(name, value, kinds) for name, value in {**given, "plugins": plugins}.items()}
        return cls(**plain, **built)

    @classmethod
    def of_this_process(cls) -> RunConfig:
        """The run that this process belongs to. Raises `InputError` outside a run."""
        path = os.environ.get(RUN_VARIABLE)
        if not path:
            raise InputError(f"{RUN_VARIABLE} is not set; start training with python -m r1_searcher.train")
        return cls.read(path)
