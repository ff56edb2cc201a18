"""A run's folder: every path in it, whose it is, whether it can be continued, and the dataset that OpenRLHF reads.

identity.json         recipe, questions and flags: what makes a run this run
run.json              configuration of the present attempt, read by every process of the run
data/train.jsonl      the questions in OpenRLHF's form
trajectories/*.jsonl  every episode, one file per engine process
verdicts/*.jsonl      what a judge said, one file per engine process, of runs with a judge
metrics.jsonl         one line per step (a view of `tensorboard/`)
progress.jsonl        one line per step: stage, rates, questions drawn
signals.jsonl         what the collapse guard saw, one line per step
guard.jsonl           signs of collapse, one line each
tensorboard/          OpenRLHF's own event files
checkpoints/          DeepSpeed checkpoints, from which a run resumes
model/                the final Hugging Face model; its r1_searcher.json says recipe and limits
export/               models made from checkpoints
session.json          the processes of the present attempt; gone when it has ended
keys.json             on a cluster, while a run lasts: keys for the other machines, for this user only
train.log             output of OpenRLHF, Ray and vLLM
complete              exists once all of the above is final
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.cli import split_flags
from foundation.files import make_folder, read_json, sync_tree, write_whole
from foundation.json_lines import write_json_lines
from foundation.owned_folder import OwnedFolder
from r1_searcher.episode.question import QARow, rows_sha256

IDENTITY_FILE = "identity.json"
CONFIG_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
TRAJECTORIES_FOLDER = "trajectories"

PLACES = frozenset(
    {
        *("--train.agent_func_path", "--data.prompt_dataset", "--ckpt.path", "--ckpt.output_dir"),
        *("--logger.tensorboard_dir", "--logger.wandb.run_name"),
    }
)
"""Flags that follow from where this package and the run's folder lie. A run that was moved is the same run."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def identity_file(self) -> Path:
        """The run's identity; another run is refused."""
        return self.path / IDENTITY_FILE

    @property
    def config_file(self) -> Path:
        """Configuration of the present attempt."""
        return self.path / CONFIG_FILE

    @property
    def corpus_of_last_attempt(self) -> str:
        """SHA-256 of the passages that the latest attempt searched; empty where it was not told, or there is none."""
        retriever = self._config.get("retriever")
        return str(retriever.get("corpus", "")) if isinstance(retriever, dict) else ""

    @property
    def attempts(self) -> tuple[int, ...]:
        """Step of the checkpoint that each attempt at the run began from, the latest one's last."""
        latest = self._config.get("first_step")
        return () if latest is None else (*self._config.get("earlier_attempts", ()), latest)

    @property
    def _config(self) -> Mapping[str, Any]:
        """The configuration of the latest attempt; empty before the first. Raises `InputError` where it is damaged."""
        return read_json(self.config_file) if self.config_file.is_file() else {}

    @property
    def data_file(self) -> Path:
        """The questions in OpenRLHF's form."""
        return self.path / "data" / "train.jsonl"

    @property
    def trajectories(self) -> Path:
        """Folder of the episodes, one file per engine process."""
        return self.path / TRAJECTORIES_FOLDER

    @property
    def verdicts(self) -> Path:
        """Folder of a judge's verdicts, one file per engine process."""
        return self.path / "verdicts"

    @property
    def metrics_file(self) -> Path:
        """One line per step."""
        return self.path / METRICS_FILE

    @property
    def progress_file(self) -> Path:
        """What each finished step was: its stage, rates, and the place in the data."""
        return self.path / "progress.jsonl"

    @property
    def signals_file(self) -> Path:
        """The collapse guard's signals of each step."""
        return self.path / "signals.jsonl"

    @property
    def guard_file(self) -> Path:
        """Signs of a collapse, as they appeared."""
        return self.path / "guard.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of OpenRLHF's own event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the DeepSpeed checkpoints."""
        return self.path / "checkpoints"

    @property
    def exports(self) -> Path:
        """Folder of the models that were made from checkpoints."""
        return self.path / "export"

    @property
    def model(self) -> Path:
        """Folder of the final Hugging Face model."""
        return self.path / "model"

    @property
    def session_file(self) -> Path:
        """The processes of the present attempt."""
        return self.path / "session.json"

    @property
    def keys_file(self) -> Path:
        """Keys for the other machines of a cluster; see `r1_searcher.host.worker`."""
        return self.path / "keys.json"

    @property
    def log_file(self) -> Path:
        """Output of OpenRLHF, Ray and vLLM."""
        return self.path / "train.log"

    @property
    def complete_file(self) -> Path:
        """Exists once the final model has been written."""
        return self.path / "complete"

    @property
    def episode_files(self) -> list[Path]:
        """The files of episodes that are there, by name."""
        return sorted(self.trajectories.glob("*.jsonl"))

    @property
    def is_complete(self) -> bool:
        """Whether the final model has been written."""
        return self.complete_file.is_file()

    @property
    def last_step(self) -> int:
        """Global step of the newest whole checkpoint; 0 without one."""
        latest = self.checkpoints / "_actor" / "latest"
        said = latest.read_text(encoding="utf-8", errors="replace") if latest.is_file() else ""
        step = said.strip().removeprefix("global_step")
        return int(step) if step.isdecimal() else 0

    @property
    def base_model(self) -> str:
        """Folder or hub name of the model that the run began with. Raises `InputError` where this is no run."""
        return str(read_json(self.identity_file).get("flags", {}).get("--actor.model_name_or_path", ""))

    def mark_complete(self) -> None:
        """Record that the final model is there. Raises as `foundation.files.write_whole` does."""
        sync_tree(self.model)  # OpenRLHF does not wait for the disk
        write_whole(self.complete_file, "")

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder for this process. Raises as `foundation.owned_folder.OwnedFolder.held` does."""
        return self._owned.held()

    def check_owner(self, identity: Mapping[str, Any]) -> None:
        """Refuse a folder that holds another run, or something that is no run.

        Raises:
            InputError: naming what differs.
        """
        self._owned.check_owner(identity, _without_places)

    @property
    def _owned(self) -> OwnedFolder:
        return OwnedFolder(self.path, self.identity_file, "run", "--run-dir")

    def prepare(self, identity: Mapping[str, Any], rows: Sequence[QARow]) -> None:
        """Create the folder, its identity and the host's dataset."""
        self._owned.claim(identity)
        make_folder(self.data_file.parent)
        lines = ({"input": row.question, "label": row.to_json()} for row in rows)
        write_json_lines(self.data_file, lines)


def _without_places(identity: Mapping[str, Any]) -> dict[str, Any]:
    flags = {flag: value for flag, value in identity.get("flags", {}).items() if flag not in PLACES}
    return {**identity, "flags": flags}


def identity_of(
    recipe: Mapping[str, Any], rows: Sequence[QARow], argv: Sequence[str], max_steps: int | None = None
) -> dict[str, Any]:
    """The identity of a run: its recipe, its questions in their order, the host's flags, and its end if it has one."""
    return {
        "recipe": dict(recipe),
        "questions": len(rows),
        "questions_sha256": rows_sha256(rows),
        "flags": {flag: " ".join(values) for flag, values in split_flags(argv)},
        "max_steps": max_steps,
    }
