"""The episodes that were played, for anyone with their address, and how users rated them."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.files import read_json, write_whole
from foundation.json_lines import JsonLines, encoded
from r1_searcher.agent_service.api_error import ApiError

_NAME = re.compile("[A-Za-z0-9_-]{8,40}")


class EpisodeStore:
    """A file for each of the latest episodes, and one of ratings. The folder is this user's alone."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Open the folder, created where it is missing.

        Args:
            folder: of the files.
            keep: episodes; older ones are deleted.

        Raises:
            InputError: the folder cannot be written.
        """
        self._episodes = folder / "episodes"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._episodes.mkdir(mode=0o700, exist_ok=True)
            found = sorted(self._episodes.glob("*.json"), key=lambda file: file.stat().st_mtime)
        except OSError as error:
            raise InputError(f"cannot keep episodes in {folder}: {error.strerror or error}") from error
        self._names = deque(file.stem for file in found)
        self._keep = keep
        self._ratings = JsonLines(folder / "ratings.jsonl")

    def add(self, name: str, episode: Mapping[str, Any]) -> None:
        """Keep an episode. Raises `RunAborted` where the disk is full."""
        write_whole(self._file(name), encoded(episode).decode())
        self._names.append(name)
        while len(self._names) > self._keep:
            self._file(self._names.popleft()).unlink(missing_ok=True)

    def get(self, name: str) -> Any:
        """An episode. Raises `ApiError` where there is none of this name."""
        file = self._file(name)
        if not _NAME.fullmatch(name) or not file.is_file():
            raise ApiError(404, "episode_not_found", f"there is no episode {name!r:.60}; it may have been deleted")
        return read_json(file)

    def rate(self, name: str, thumb: str, comment: str | None) -> None:
        """Note a rating. Raises `ApiError` where there is no such episode."""
        episode = self.get(name)
        told = {key: episode[key] for key in ("question", "model")}
        self._ratings.append({"id": name, "thumb": thumb, "comment": comment, "created": int(time.time()), **told})

    def close(self) -> None:
        """Close the file of ratings."""
        self._ratings.close()

    def _file(self, name: str) -> Path:
        return self._episodes / f"{name}.json"
