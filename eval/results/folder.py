"""The folder of one evaluation: whose it is, and what has been answered already.

evaluation.json      the settings; another evaluation is refused
predictions.jsonl    one line per answered question, whole episodes
scores.json          the summary, once everything is answered
engine.log           output of the engine
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.play.evaluation import Episode
from eval.results.summary import Outcome
from foundation.errors import InputError
from foundation.storage import JsonLines, storage_error, write_whole
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.run.episode_log import read_episodes

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
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is not a folder; choose another --out")
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        if not self.settings_file.is_file():
            raise InputError(f"{self.path} exists and holds no evaluation; choose another --out")
        if not self.predictions_file.is_file() or not self.predictions_file.stat().st_size:
            return
        found = json.loads(self.settings_file.read_text(encoding="utf-8"))
        differing = sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key))
        if differing:
            was, now = ({key: each.get(key) for key in differing} for each in (found, settings))
            raise InputError(
                f"{self.path} holds another evaluation: it has {was}, this command has {now}; choose another --out"
            )

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Create the folder and make it this evaluation's."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.settings_file, settings)


class Predictions:
    """`predictions.jsonl`: what has been answered, and the log that grows.

    Opening it drops what a killed evaluation left half-written, and the questions whose search failed: those
    are asked again.
    """

    def __init__(self, path: Path) -> None:
        self._outcomes: dict[str, dict[str, Outcome]] = {}
        if path.is_file():
            self._keep_finished(path)
        self._log = JsonLines(path)

    def _keep_finished(self, path: Path) -> None:
        draft = path.with_suffix(".partial")
        try:
            with draft.open("w", encoding="utf-8", errors="backslashreplace") as kept:
                for line in read_episodes(path):
                    outcome = Outcome.from_line(line)
                    if outcome.counts:
                        self._note(line["decoding"], outcome)
                        kept.write(json.dumps(line, ensure_ascii=False) + "\n")
            draft.replace(path)
        except OSError as error:
            raise storage_error(draft, error) from error

    def add(self, decoding: str, episode: Episode) -> Outcome:
        """Record a finished episode. Raises `RunAborted` where the disk is full."""
        outcome = Outcome.of(episode)
        extra = {"decoding": decoding, "metrics": dict(outcome.metrics), "reward": vars(episode.reward)}
        self._log.append({**extra, **to_mapping(episode.trajectory)})
        self._note(decoding, outcome)
        return outcome

    def of(self, decoding: str) -> Sequence[Outcome]:
        """The outcomes of one decoding."""
        return list(self._outcomes.get(decoding, {}).values())

    def missing(self, decoding: str, rows: Sequence[QARow]) -> list[QARow]:
        """The questions that are still to be asked."""
        answered = self._outcomes.get(decoding, {})
        return [row for row in rows if row.id not in answered]

    def close(self) -> None:
        """Flush and close the file."""
        self._log.close()

    def _note(self, decoding: str, outcome: Outcome) -> None:
        self._outcomes.setdefault(decoding, {})[outcome.id] = outcome


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all. Raises as `foundation.storage.write_whole` does."""
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def provenance_beside(predictions: Path) -> dict[str, Any]:
    """What is known of a file of predictions: that of its finished evaluation, else the settings; else nothing."""
    scores, settings = (predictions.parent / name for name in (SCORES_FILE, SETTINGS_FILE))
    if scores.is_file():
        return dict(json.loads(scores.read_text(encoding="utf-8")).get("provenance", {}))
    return dict(json.loads(settings.read_text(encoding="utf-8"))) if settings.is_file() else {}
