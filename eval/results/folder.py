"""The folder of one evaluation: whose it is, and what has been answered already.

evaluation.json      the settings; another evaluation is refused
predictions.jsonl    one line per answered question, whole episodes
scores.json          the summary, once everything is answered
engine.log           output of the engine
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.files import draft
from foundation.owned_folder import OwnedFolder
from r1_searcher.episode.question import QARow
from r1_searcher.run.episode_log import EpisodeLog, read_episodes
from r1_searcher.run.episode_record import EpisodeRecord

SETTINGS_FILE = "evaluation.json"
SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class EvaluationFolder:
    """Paths of one evaluation."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """Settings of the evaluation that the folder belongs to."""
        return self.path / SETTINGS_FILE

    @property
    def predictions_file(self) -> Path:
        """One line per answered question."""
        return self.path / "predictions.jsonl"

    @property
    def scores_file(self) -> Path:
        """Summary of the predictions."""
        return self.path / SCORES_FILE

    @property
    def log_file(self) -> Path:
        """Output of the engine."""
        return self.path / "engine.log"

    def check_owner(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that holds something else than this evaluation.

        An evaluation that has not one answer yet (its engine would not start, say) may be replaced.

        Raises:
            InputError: naming what differs.
        """
        self._owned.check_owner(settings)

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder for this process. Raises as `foundation.owned_folder.OwnedFolder.held` does."""
        return self._owned.held()

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Create the folder and make it this evaluation's."""
        self._owned.claim(settings)

    @property
    def _owned(self) -> OwnedFolder:
        return OwnedFolder(self.path, self.settings_file, "evaluation", results_file=self.predictions_file)


class Predictions:
    """`predictions.jsonl`: what has been answered, and the log that grows.

    Opening it drops what a killed evaluation left half-written, and the questions whose search failed: those
    are asked again. Records are kept without their tokens.
    """

    def __init__(self, path: Path) -> None:
        self._records: dict[str, dict[str, EpisodeRecord]] = {}
        if path.is_file():
            self._keep_finished(path)
        self._log = EpisodeLog(path)

    def _keep_finished(self, path: Path) -> None:
        with draft(path) as temporary, closing(EpisodeLog(temporary)) as kept:
            for record in read_episodes(path):
                if not record.failed:
                    kept.write(record)
                    self._note(record)

    def add(self, record: EpisodeRecord) -> None:
        """Record a finished episode. Raises `RunAborted` where the disk is full."""
        self._log.write(record)
        self._note(record)

    def of(self, decoding: str) -> Sequence[EpisodeRecord]:
        """The records of one decoding."""
        return list(self._records.get(decoding, {}).values())

    def missing(self, decoding: str, rows: Sequence[QARow]) -> list[QARow]:
        """The questions that are still to be asked."""
        answered = self._records.get(decoding, {})
        return [row for row in rows if row.id not in answered]

    def close(self) -> None:
        """Flush and close the file."""
        self._log.close()

    def _note(self, record: EpisodeRecord) -> None:
        self._records.setdefault(record.decoding, {})[record.row.id] = record.without_tokens
