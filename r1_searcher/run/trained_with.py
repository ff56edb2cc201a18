"""What a model was trained with, in a file beside its weights: how to ask it as it learned to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from foundation.errors import InputError
from foundation.files import read_json, write_json
from r1_searcher.recipe.plugins import load_plugin
from r1_searcher.recipe.recipe import Recipe

FILE_NAME = "r1_searcher.json"


@dataclass(frozen=True)
class TrainedWith:
    """The episodes that a model was trained on, and how far."""

    recipe: Recipe
    """Protocol with its prompts, reward, and the limits of an episode."""
    plugins: tuple[str, ...]
    """Files and modules that the recipe's names come from; empty for systems of this project."""
    base_model: str
    """Folder or hub name of the model that training began with."""
    step: int
    """Training step of these weights."""

    def write(self, folder: Path) -> None:
        """Write the file into a model's folder."""
        values = {"plugins": list(self.plugins), "base_model": self.base_model, "step": self.step}
        write_json(folder / FILE_NAME, {"recipe": self.recipe.to_mapping(), **values})

    @classmethod
    def read(cls, folder: str | Path) -> TrainedWith | None:
        """What a model's folder says; None where it says nothing: a base model, or one of elsewhere.

        Raises:
            InputError: the file cannot be read, or names a plugin, protocol or reward that is not here.
        """
        file = Path(folder).expanduser() / FILE_NAME
        if not file.is_file():
            return None
        try:
            found = msgspec.convert(read_json(file), _Written)
            for plugin in found.plugins:
                load_plugin(plugin)
            return cls(Recipe.from_mapping(found.recipe), found.plugins, found.base_model, found.step)
        except (TypeError, msgspec.ValidationError) as error:
            raise InputError(f"{file} does not say what the model was trained with: {error}") from error


class _Written(msgspec.Struct):
    """The file, without a look into the recipe."""

    recipe: dict[str, Any]
    plugins: tuple[str, ...]
    base_model: str
    step: int
