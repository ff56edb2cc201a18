"""Finished episodes as JSON lines in the run folder, one file per engine process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.storage import JsonLines
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.reward.rewards import RewardResult


class EpisodeLog:
    """Appends episodes; see `JsonLines` for what a kill or a full disk leaves."""

    def __init__(self, path: str | Path) -> None:
        self._lines = JsonLines(path)
        self.path = self._lines.path

    def write(self, trajectory: Trajectory, reward: RewardResult | None, **extra: Any) -> None:
        """Add one episode; `extra` are further keys of its line (step, attempt, …).

        Raises:
            RunAborted: the disk is full.
        """
        line: dict[str, Any] = {**extra, **to_mapping(trajectory)}
        if reward is not None:
            line["reward"] = {"total": reward.total, "parts": dict(reward.parts), "rules": dict(reward.rules)}
        self._lines.append(line)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_episodes(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The episodes of a log; an incomplete line (of a killed run, or one being written) is left out."""
    with Path(path).open("rb") as lines:
        for line in lines:
            episode = _parsed(line) if line.endswith(b"\n") else None
            if episode is not None:
                yield episode


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return None
