"""The folder of one selection: its rollouts, the classed questions, the sets, and the manifest that rebuilds them.

selection.json     what the rollouts are of; another selection is refused
rollouts.jsonl     one line per finished rollout
questions.jsonl    every question with its class
stage1.jsonl …     the sets of the plan
manifest.json      settings, seeds, counts, hashes of inputs and outputs, versions
engine.log         output of the engine
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from data_prep.questions.sampling import lines_of
from data_prep.select.difficulty import Bounds, Difficulty
from data_prep.select.question_sets import ClassedRow, QuestionSet
from data_prep.select.rollouts import RolloutLog, RolloutPlan
from eval.play.provenance import versions
from foundation.errors import InputError, RunAborted
from foundation.files import make_folder, read_json, text_sha256, write_json, write_whole
from foundation.json_lines import line_of
from foundation.owned_folder import OwnedFolder
from r1_searcher.episode.question import QARow

FORMAT_VERSION = 1
"""Goes up when the same rollouts give other sets."""


@dataclass(frozen=True)
class SelectionFolder:
    """Paths of one selection, and whose it is."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """Flags and fingerprints that the folder belongs to."""
        return self.path / "selection.json"

    @property
    def rollouts_file(self) -> Path:
        """One line per finished rollout."""
        return self.path / "rollouts.jsonl"

    @property
    def manifest_file(self) -> Path:
        """The inputs of the sets, and how to make them again."""
        return self.path / "manifest.json"

    @property
    def log_file(self) -> Path:
        """Output of the engine."""
        return self.path / "engine.log"

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder for this process. Raises as `foundation.owned_folder.OwnedFolder.held` does."""
        return self._owned.held()

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Create the folder for these settings.

        Raises:
            InputError: it holds rollouts of others; the message names what differs.
        """
        self._owned.check_owner(settings)
        self._owned.claim(settings)

    def take_rollouts_of(self, other: SelectionFolder, sha256: str) -> bool:
        """Copy the rollouts that a manifest names, where they lie beside it unchanged and there are none here."""
        if self.rollouts_file.exists() or not (other.rollouts_file.is_file() and other.settings_file.is_file()):
            return False
        text = other.rollouts_file.read_bytes()
        if sorted_sha256(text) != sha256:
            return False
        make_folder(self.path)
        write_whole(self.settings_file, other.settings_file.read_text(encoding="utf-8"))
        write_whole(self.rollouts_file, text.decode("utf-8"))
        return True

    @property
    def _owned(self) -> OwnedFolder:
        return OwnedFolder(self.path, self.settings_file, "selection", results_file=self.rollouts_file)


def sorted_sha256(text: bytes) -> str:
    """Digest of a log's finished lines in a fixed order: rollouts end in any order, and none twice."""
    lines = sorted(line for line in text.splitlines(keepends=True) if line.endswith(b"\n"))
    return text_sha256(b"".join(lines).decode("utf-8", "backslashreplace"))


def class_questions(
    rows: Sequence[QARow],
    log: RolloutLog,
    closed_book: RolloutPlan,
    search: RolloutPlan,
    bounds: Bounds,
    keep_known: bool,
) -> list[ClassedRow]:
    """Every question's class.

    Args:
        keep_known: class known questions by their rollouts with search, too, and mark them.
    """
    classed = []
    for row in rows:
        known, tries = log.tries(closed_book, row).right, log.tries(search, row)
        dropped = known and not keep_known
        difficulty = Difficulty.KNOWN if dropped else bounds.difficulty(tries)
        classed.append(ClassedRow(row, difficulty, 0 if dropped else tries.made, known))
    return classed


@dataclass(frozen=True)
class Selection:
    """Everything that is written at the end."""

    classed: Sequence[ClassedRow]
    stages: Mapping[str, QuestionSet]

    @property
    def files(self) -> dict[str, str]:
        """Name of each output -> its text."""
        texts = {"questions.jsonl": "".join(map(_classed_line, self.classed))}
        return texts | {f"{stage}.jsonl": lines_of(stage_set.rows) for stage, stage_set in self.stages.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """Counts, what each quota gave, and hashes of the outputs."""
        counts = Counter((each.row.source, each.difficulty.value) for each in self.classed)
        sources = sorted({source for source, _ in counts})
        return {
            "counts": {source: {each.value: counts[source, each.value] for each in Difficulty} for source in sources},
            "known": sum(each.known for each in self.classed),
            "stages": {
                stage: {"questions": len(each.rows), "taken": dict(each.taken)} for stage, each in self.stages.items()
            },
            "outputs_sha256": {name: text_sha256(text) for name, text in self.files.items()},
        }

    def write(self, folder: SelectionFolder, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Write the sets and, last, the manifest, which is returned. Raises as `write_whole` does."""
        for name, text in self.files.items():
            write_whole(folder.path / name, text)
        rollouts = sorted_sha256(folder.rollouts_file.read_bytes())
        manifest = {
            "format_version": FORMAT_VERSION,
            **settings,
            **self.facts,
            "rollouts_sha256": rollouts,
            "versions": versions(),
        }
        write_json(folder.manifest_file, manifest)
        return manifest


def _classed_line(classed: ClassedRow) -> str:
    extra = {"difficulty": classed.difficulty.value, "rollouts": classed.rollouts, "known": classed.known}
    return line_of({**json.loads(classed.row.to_json()), **extra})


class _Input(msgspec.Struct):
    path: str
    sha256: str


class _Manifest(msgspec.Struct):
    """What is read of a manifest."""

    options: dict[str, Any]
    inputs: list[_Input]
    settings: dict[str, Any]
    rollouts_sha256: str
    outputs_sha256: dict[str, str]
    versions: dict[str, Any]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a selection, or of its folder. Raises `InputError`."""
    file = SelectionFolder(path).manifest_file if path.is_dir() else path
    manifest = read_json(file)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(f"--from-manifest {path}: expected a manifest of format {FORMAT_VERSION}")
    try:
        msgspec.convert(manifest, _Manifest)
    except msgspec.ValidationError as error:
        raise InputError(f"--from-manifest {path}: damaged ({error}); expected the manifest of a selection") from error
    return manifest


def check_rebuilt(manifest: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> None:
    """Raises `RunAborted` where the rebuilt files are not those of the manifest."""
    was, now = manifest["outputs_sha256"], rebuilt["outputs_sha256"]
    differing = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    if differing:
        raise RunAborted(
            f"the rebuilt {', '.join(differing)} differ from the manifest's; versions there {manifest['versions']}, "
            f"here {rebuilt['versions']}"
        )
