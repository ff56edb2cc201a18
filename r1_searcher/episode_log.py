"""Finished episodes as JSON lines in the run folder, one file per engine process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from r1_searcher.rewards import RewardResult
from r1_searcher.trajectory import Trajectory
from r1_searcher.trajectory_json import to_mapping


class EpisodeLog:
    """Appends episodes.  Each line is written whole, so a killed run leaves at most one incomplete line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        if self.path.stat().st_size:
            self._file.write(b"\n")  # a killed process of the same name may have left half a line

    def write(self, trajectory: Trajectory, reward: RewardResult | None, **extra: Any) -> None:
        """Add one episode; ``extra`` are further keys of its line (step, attempt, …)."""
        line: dict[str, Any] = {**extra, **to_mapping(trajectory)}
        if reward is not None:
            line["reward"] = {"total": reward.total, "parts": dict(reward.parts), "rules": dict(reward.rules)}
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


def read_episodes(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The episodes of a log; an incomplete line (of a killed run, or one being written) is left out."""
    with Path(path).open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                episode = json.loads(line)
                yield episode
