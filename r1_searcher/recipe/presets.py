"""Presets: a recipe with its model and hyper-parameters, as TOML files.

Those of this project stand in `train_scripts/presets`. A preset says everything that a training command line can leave
out. Its `[flags]` are OpenRLHF's, with dots as there; `true` is a flag without a value, `false` takes a flag away that
`extends` brought in, a list is several values. Numbers keep the text that they have in the file.
`r1_searcher.launch.preset_run` runs a preset.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from foundation.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "train_scripts" / "presets"
SEED_FLAG = "--train.seed"
QUICKSTART = "quickstart"
"""The tiny world of the README; the other settings are in `data_prep.tiny.difficulty`."""


class Simulator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language model that plays the search engine, fine-tuned and served beside the training."""

    mode: str
    noise: str
    flags: dict[str, Any] = {}
    """Of its fine-tuning (`r1_searcher.sft`)."""


class TinyWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The invented world in which a preset trains: made for the seed, and searched by a service started for the run."""

    world: str = QUICKSTART
    """How hard it is: a setting of `data_prep.tiny.difficulty`."""
    base_protocol: str = ""
    """Protocol whose tiny base model is built where it is missing; empty: the model is there."""
    simulator: Simulator | None = None
    """Instead of the BM25 server."""


class ColdStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fine-tuning of a published model on demonstrations, before the first stage; `eval.real_run` does it."""

    source: str
    """The published model, as `data_prep.pretrained` takes it."""
    episodes: int
    """Demonstrations."""
    thoughts: str
    """What they keep of a thought, as `data_prep.good_trajectories` takes it."""
    flags: dict[str, Any] = {}
    """Of the fine-tuning (`r1_searcher.sft`)."""


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of a preset."""

    recipe: str
    data: str = ""
    """File of questions in the tiny world."""
    starts_from: str = ""
    """Stage whose model this one starts from; empty: the preset's model."""
    max_steps: int | None = None
    """Steps (rollouts) after which it ends; None: all passes over the data."""
    flags: dict[str, Any] = {}
    """OpenRLHF's, over the preset's."""


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a preset file."""

    name: str
    title: str
    system: str
    """Published system whose script offers this preset, e.g. `search_r1`."""
    model: str
    """Hub name or folder; one that starts with `./` is in the project's folder, with `./runs/` in that of the runs."""
    stages: Annotated[dict[str, Stage], msgspec.Meta(min_length=1)]
    flags: dict[str, Any]
    default_on: Literal["", "cpu", "gpu"] = ""
    """Machines on which the system's script takes this preset where none is named."""
    device: Literal["", "cpu", "cuda"] = ""
    """Empty: what is there."""
    browse: str = ""
    """Source that reads pages."""
    retriever_timeout: float = 0.0
    """Seconds of one request to the search source; 0: the command's own."""
    retriever_deadline: float = 0.0
    """Seconds of one search, all tries together; 0: the command's own."""
    tiny: TinyWorld | None = None
    cold_start: ColdStart | None = None

    def stage(self, name: str) -> Stage:
        """The named stage; without a name the only one, or the first. Raises `InputError` naming the stages."""
        chosen = name or next(iter(self.stages))
        if chosen not in self.stages:
            raise InputError(f"the preset {self.name} has no stage {chosen!r}; it has {', '.join(self.stages)}")
        return self.stages[chosen]

    def flags_of(self, stage: Stage) -> dict[str, Any]:
        """OpenRLHF's flags of one stage: those of all stages, then its own."""
        return _merged(self.flags, stage.flags)

    def flag_words(self, stage: Stage, seed: int = 0) -> list[str]:
        """The flags of one stage as a command line; `seed` is added to the preset's own."""
        merged = self.flags_of(stage)
        if seed:
            training = merged.setdefault("train", {})
            # 42 is OpenRLHF's default.
            training["seed"] = int(training.get("seed", 42)) + seed
        return words_of(merged)


def words_of(flags: Mapping[str, Any], prefix: str = "--") -> list[str]:
    """A table of flags as a command line."""
    words: list[str] = []
    for key, value in flags.items():
        if isinstance(value, dict):
            words += words_of(value, f"{prefix}{key}.")
        elif value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [prefix + key, *map(str, values)]
    return words


def shipped_presets() -> dict[str, Preset]:
    """The presets of this project, by name."""
    return {path.stem: read_preset(path) for path in sorted(FOLDER.glob("*.toml"))}


def is_file_name(preset: str) -> bool:
    """Whether a preset is named by the path of its file."""
    return "/" in preset or preset.endswith((".toml", ".sh"))


def find_preset(name: str) -> Preset:
    """A preset of this project by name, or a user's own by its path.

    Raises:
        InputError: there is none, or the file cannot work; the message names what is known.
    """
    path = Path(name) if is_file_name(name) else FOLDER / f"{name}.toml"
    if path.suffix == ".sh" or (not path.is_file() and path.with_suffix(".sh").is_file()):
        raise InputError(
            f"{path.with_suffix('.sh')} is a shell preset, and presets are TOML files now; write its flags as in "
            f"{FOLDER / 'tiny.toml'} and give --preset {path.with_suffix('.toml')}"
        )
    if not path.is_file():
        known = ", ".join(preset.stem for preset in sorted(FOLDER.glob("*.toml")))
        raise InputError(f"unknown preset {name!r}; known: {known}, or the path of a .toml file")
    return read_preset(path)


def preset_of(system: str, name: str, gpu: bool) -> Preset:
    """The named preset, which must be of this system; without a name the one for this kind of machine.

    Raises:
        InputError: the system has no such preset; the message names those that it has.
    """
    if is_file_name(name):
        preset = find_preset(name)
        if preset.system != system:
            raise InputError(f"the preset {name} is of the system {preset.system!r}, expected {system!r}")
        return preset
    known = [preset for preset in shipped_presets().values() if preset.system == system]
    wanted = "gpu" if gpu else "cpu"
    for preset in known:
        if preset.name == name or (not name and preset.default_on == wanted):
            return preset
    if (FOLDER / f"{name}.sh").is_file():
        return find_preset(name)
    raise InputError(f"{system} has no preset {name!r}; it has {', '.join(preset.name for preset in known)}")


def read_preset(path: Path) -> Preset:
    """Read a preset file. Raises `InputError` naming the file and what is wrong in it."""
    try:
        return msgspec.convert({**_document(path), "name": path.stem}, Preset)
    except msgspec.ValidationError as error:
        raise InputError(f"the preset {path}: {error}") from None


def _document(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file as a table, over that which it extends; `below` are the files that came to it by extending."""
    if path.resolve() in below:
        raise InputError(f"the preset {path} extends itself")
    try:
        with path.open("rb") as file:
            document = tomllib.load(file, parse_float=str)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the preset {path}: {error}") from None
    if "extends" not in document:
        return document
    name = str(document.pop("extends"))
    base = FOLDER / f"{name}.toml" if (FOLDER / f"{name}.toml").is_file() else path.parent / name
    inherited = _document(base, (*below, path.resolve()))
    inherited.pop("default_on", None)
    return {**inherited, **document, "flags": _merged(inherited.get("flags", {}), document.get("flags", {}))}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables; where both say something, `above` counts."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old if isinstance(old, dict) else {}, value) if isinstance(value, dict) else value
    return merged
