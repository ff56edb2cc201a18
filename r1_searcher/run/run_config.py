"""The configuration of one training run: written once into its folder, read by every process of it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.files import write_json
from r1_searcher.recipe.plugins import load_plugin
from r1_searcher.recipe.recipe import Recipe
from retriever.sources import follows_progress

ENVIRONMENT_VARIABLE = "R1_SEARCHER_RUN"
"""Names the file of the run's configuration to processes that the host starts without arguments of ours."""


@dataclass(frozen=True)
class RetrieverConfig:
    """How episodes reach the search service."""

    url: str
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
    """Longest outage that training waits out before the run ends; see `r1_searcher.run.retrieval_guard`."""


@dataclass(frozen=True)
class JudgeConfig:
    """The language model that judges answers, for rewards that ask one."""

    url: str
    """Address of an OpenAI-compatible endpoint; its key comes from the environment (`OPENAI_API_KEY`)."""
    model: str
    timeout: float = 30.0
    """Seconds of one attempt."""


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
    episodes_per_step: int = 0
    """Episodes that one engine plays per step."""
    samples_per_question: int = 1
    """Episodes of one question that are compared with each other (`--rollout.n_samples_per_prompt`)."""
    engines: int = 1
    total_steps: int = 0
    """Global steps of the whole run."""
    judge: JudgeConfig | None = None
    plugin: str = ""
    """File with rows of the user's own; see `r1_searcher.recipe.plugins`."""

    @property
    def counts_progress(self) -> bool:
        """Whether episodes depend on how far the run is: a switch of rewards, or a curriculum of the search engine."""
        return bool(self.recipe.switch) or follows_progress(self.retriever.url)

    def write(self, path: Path) -> None:
        """Write the file that `read` reads."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> RunConfig:
        """Read a run's configuration."""
        return cls.from_mapping(json.loads(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RunConfig:
        """The configuration from its JSON object. Loads its plugin, whose rows the recipe may name."""
        if mapping.get("plugin"):
            load_plugin(mapping["plugin"])
        return cls(
            **{
                **mapping,
                "recipe": Recipe.from_mapping(mapping["recipe"]),
                "retriever": RetrieverConfig(**mapping["retriever"]),
                "judge": JudgeConfig(**mapping["judge"]) if mapping.get("judge") else None,
            }
        )

    @classmethod
    def of_this_process(cls) -> RunConfig:
        """The run that this process belongs to. Raises `InputError` outside a run."""
        path = os.environ.get(ENVIRONMENT_VARIABLE)
        if not path:
            raise InputError(f"{ENVIRONMENT_VARIABLE} is not set; start training with python -m r1_searcher.train")
        return cls.read(path)
