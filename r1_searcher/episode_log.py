"""Finished episodes as JSON lines in the run folder, one file per engine process."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from r1_searcher.rewards import RewardResult
from r1_searcher.trajectory import Trajectory
from r1_searcher.trajectory_json import to_mapping


class EpisodeLog:
    """Appends episodes.  Each line is written whole, so a killed run leaves at most one incomplete line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        if self._ends_in_half_a_line():
            self._file.write(b"\n")

    def _ends_in_half_a_line(self) -> bool:
        """Whether a killed process has left the last line of this file incomplete."""
        if not self._file.seek(0, os.SEEK_END):
            return False
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) != b"\n"

    def write(self, trajectory: Trajectory, reward: RewardResult | None, **extra: Any) -> None:
        """Add one episode; ``extra`` are further keys of its line (step, attempt, …)."""
        line: dict[str, Any] = {**extra, **to_mapping(trajectory)}
        if reward is not None:
            line["reward"] = {"total": reward.total, "parts": dict(reward.parts), "rules": dict(reward.rules)}
        self._file.write(_encoded(line) + b"\n")

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


def read_episodes(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The episodes of a log; an incomplete line (of a killed run, or one being written) is left out."""
    with Path(path).open("rb") as lines:
        for line in lines:
            episode = _parsed(line) if line.endswith(b"\n") else None
            if episode is not None:
                yield episode


def _encoded(line: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(line)  # a fifth of json's time, and a rollout logs every episode
    except UnicodeEncodeError:  # half of a surrogate pair, which a dataset's JSON may hold
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return None
