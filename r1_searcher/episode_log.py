"""Finished episodes as JSON lines in the run folder, one file per engine process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from r1_searcher.rewards import RewardResult
from r1_searcher.trajectory import Trajectory
from r1_searcher.trajectory_json import to_mapping


class EpisodeLog:
    """Appends episodes.  Each line is written whole, so a killed run leaves at most one incomplete last line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8", buffering=1)

    def write(self, trajectory: Trajectory, reward: RewardResult | None, **extra: Any) -> None:
        """Add one episode; ``extra`` are further keys of its line (step, attempt, …)."""
        line: dict[str, Any] = {**extra, **to_mapping(trajectory)}
        if reward is not None:
            line["reward"] = {"total": reward.total, "parts": dict(reward.parts), "rules": dict(reward.rules)}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


def read_episodes(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The lines of an episode log; an incomplete last line (of a killed run, or one being written) is left out."""
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
