"""Compare the presets with what the five systems published, and list where they differ, from the data itself.

`train_scripts/published/SYSTEM.toml` holds every published setting with file and line. `python docs/draw_settings.py`
rewrites the table of deviations in docs/recipes.md, and that of the presets for real text in docs/real_models.md with
what the memory planner says of them; tests/project/test_published.py fails while a preset has another value than the
file says, or a table is old.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.results.page import between_marks
from r1_searcher.host.command import build_command, with_length_of
from r1_searcher.host.device import Device
from r1_searcher.memory.fit import Cards, fit
from r1_searcher.memory.layout import Layout
from r1_searcher.memory.phases import GIB
from r1_searcher.memory.shape import find_shape
from r1_searcher.recipe.presets import Preset, Stage, shipped_presets
from r1_searcher.recipe.recipe import find_recipe

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "train_scripts" / "published"
PAGE = ROOT / "docs" / "recipes.md"
REAL_PAGE = ROOT / "docs" / "real_models.md"
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
CARD = Cards.parse("1x80")
"""The machine that the presets for real text are planned for."""

Value = bool | int | float | str | list[float]


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published value."""

    published: Value
    at: str
    """`file:line`; the file is one of the system's `files`."""
    ours: Value | None = None
    """Where a preset differs."""
    why: str = ""

    @property
    def expected(self) -> Value:
        """The value that the preset must have."""
        return self.published if self.ours is None else self.ours


class System(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a file: settings by OpenRLHF's flag, `limits.NAME` of the recipe, or a name of ours."""

    title: str
    repository: str
    commit: str
    paper: str
    files: dict[str, str]
    presets: dict[str, dict[str, Setting]]
    """By `preset` or `preset:stage`."""
    common: dict[str, Setting] = {}
    """Of all its presets."""

    def settings(self, preset: str) -> dict[str, Setting]:
        """All settings of one of its presets."""
        return {**self.common, **self.presets[preset]}


def read_systems() -> dict[str, System]:
    """The published settings of every system, by the name that presets give as `system`."""
    return {
        path.stem: msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), System)
        for path in sorted(FOLDER.glob("*.toml"))
    }


def values_of(preset: Preset, stage: Stage) -> dict[str, Any]:
    """What a preset's stage trains with, under the names that the published settings have."""
    recipe = find_recipe(stage.recipe)
    command = build_command(recipe, Path("/run"), preset.flag_words(stage), Device.CUDA)
    limits = asdict(with_length_of(recipe, command).limits)
    named = {"model": preset.model, "max_steps": stage.max_steps}
    return {**vars(command.flags), **{f"limits.{name}": value for name, value in limits.items()}, **named}


def differences(system: System, name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """What a preset does otherwise than its system's file says, a line each."""
    for key, setting in system.settings(name).items():
        if key in values and not _same(values[key], setting.expected):
            published = f"published as {setting.published} ({setting.at})"
            yield f"{name}: {key} is {values[key]}, {published}, expected {setting.expected}"
        if (key not in values or setting.ours is not None) and not setting.why:
            yield f"{name}: {key} differs, or has no counterpart, and the file gives no reason"


def _same(value: Any, expected: Value) -> bool:
    if isinstance(expected, list):
        return [float(part) for part in value] == expected
    return bool(value == expected)


def table(systems: Mapping[str, System]) -> str:
    """The deviations of all presets as Markdown, a row each; rows of several presets of a system stand once."""
    lines = ["| preset | setting | published | here | why |", "|---|---|---|---|---|"]
    for system in systems.values():
        rows: dict[tuple[str, str, str, str], list[str]] = {}
        for name in system.presets:
            for key, setting in system.settings(name).items():
                if setting.why:
                    ours = _text(setting.ours if setting.ours is not None else "")
                    rows.setdefault((key, _cell(system, setting), ours, setting.why), []).append(name.partition(":")[0])
        for (key, *cells), names in rows.items():
            presets = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
            lines.append(f"| {' | '.join([presets, _name(key), *cells])} |")
    return "\n".join(lines)


def real_table() -> str:
    """The presets for real text as Markdown, a row each, with the memory that stage 2 is planned to need."""
    lines = [
        "| preset | model | machine | episodes of a step | longest | planned for | rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, preset in shipped_presets().items():
        if preset.cold_start is None:
            continue
        values = values_of(preset, preset.stage("stage2"))
        episodes = f"{values['rollout.batch_size']} x {values['rollout.n_samples_per_prompt']}"
        machine, planned = "CPUs", "–"
        if preset.device == "cuda":
            found = fit(find_shape(preset.model), Layout(values), CARD)
            peak = found.worst[1]
            machine = f"{found.gpus} GPU of 80 GB, not measured"
            planned = f"{peak.total / GIB:.0f} of {CARD.bytes_each / GIB:.0f} GiB ({peak.phase.value})"
        cells = [preset.cold_start.source, machine, episodes, f"{values['data.max_len']:,} tokens", planned]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {values['actor.adam.lr']:g} |")
    return "\n".join(lines)


def _name(key: str) -> str:
    return f"`{key}`" if "." in key else key.replace("_", " ")


def _text(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cell(system: System, setting: Setting) -> str:
    file, _, line = setting.at.partition(":")
    address = f"{system.repository}/blob/{system.commit}/{system.files[file]}#L{line}"
    return f"[{_text(setting.published)}]({address})"


def drawn(page: str, table: str) -> str:
    """The page with this table between its two marks."""
    return between_marks(page, BEGIN, END, table)


if __name__ == "__main__":
    for page, drawing in ((PAGE, table(read_systems())), (REAL_PAGE, real_table())):
        page.write_text(drawn(page.read_text(encoding="utf-8"), drawing), encoding="utf-8")
