"""The subject of an examination: a recipe, a model's tokenizer and configuration, and where it will run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.host.command import build_command
from r1_searcher.host.device import detect
from r1_searcher.memory.layout import Layout
from r1_searcher.recipe.recipe import Recipe

SAMPLE_ROW = QARow(
    id="doctor",
    question="Which river flows through the town where the inventor of the power loom was born?",
    answers=("the gold of the doctor",),
    source="doctor",
)
"""A question of usual length, for where no data is given."""


@dataclass(frozen=True)
class Subject:
    """Everything that the checks look at."""

    recipe: Recipe
    model: str
    """Folder, or name of the hub."""
    tokenizer: HFTokenizer
    config: Mapping[str, Any]
    """The model's `config.json`."""
    generation_config: Mapping[str, Any]
    """Its `generation_config.json`, or what its configuration says in its place."""
    rows: Sequence[QARow] = (SAMPLE_ROW,)
    search: str = ""
    """Empty: the search service is not looked at."""
    flags: Sequence[str] = ()
    """OpenRLHF's flags of the run; empty where none are given."""
    trust_remote_code: bool = False
    """Whether code that the model brings may run."""

    @cached_property
    def layout(self) -> Layout:
        """What the flags put where, with OpenRLHF's defaults (ours without a GPU) for what they leave out."""
        return Layout(vars(build_command(self.recipe, Path("/run"), self.flags, detect()[0]).flags))

    @property
    def protocol(self) -> Protocol:
        """The recipe's protocol."""
        return self.recipe.protocol

    @cached_property
    def has_own_rows(self) -> bool:
        """Whether the questions are the user's."""
        return tuple(self.rows) != (SAMPLE_ROW,)

    def prompt(self, row: QARow) -> str:
        """A question's prompt.

        Raises:
            InputError: the tokenizer's chat template is missing or does not take the protocol's messages.
        """
        try:
            return render_prompt(self.protocol, row, self.tokenizer)
        except (ValueError, TypeError) as error:
            raise InputError(f"the tokenizer's chat template gives no prompt: {error}") from error

    @cached_property
    def longest_prompt(self) -> tuple[QARow, str]:
        """The question whose prompt has the most tokens, and that prompt."""
        prompts = [(row, self.prompt(row)) for row in self.rows]
        return max(prompts, key=lambda pair: len(self.tokenizer.encode(pair[1])))


def load_subject(
    recipe: Recipe,
    model: str,
    *,
    rows: Sequence[QARow] = (SAMPLE_ROW,),
    search: str = "",
    flags: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> Subject:
    """Read a model's tokenizer and configuration; its weights stay where they are.

    Raises:
        InputError: there is no such model, or it has no usable tokenizer.
    """
    from transformers import AutoConfig, GenerationConfig

    from r1_searcher.host import model_folder

    model_folder.check_model_path(model)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the configuration of model {model}: {str(error).splitlines()[0]}") from error
    try:
        generation = GenerationConfig.from_pretrained(model)
    except (OSError, ValueError):
        generation = GenerationConfig.from_model_config(config)
    settings = (config.to_dict(), generation.to_dict())
    tokenizer = model_folder.load_tokenizer(model, trust_remote_code=trust_remote_code)
    return Subject(recipe, model, tokenizer, *settings, tuple(rows), search, tuple(flags), trust_remote_code)
