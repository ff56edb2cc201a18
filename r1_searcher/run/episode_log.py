"""Finished episodes as JSON lines: one file per engine process of a run, one file per evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.json_lines import JsonLines, read_finished
from r1_searcher.run.episode_record import EpisodeRecord, read_line


class EpisodeLog:
    """Appends episodes; see `JsonLines` for what a kill or a full disk leaves."""

    def __init__(self, path: str | Path) -> None:
        self._lines = JsonLines(path)
        self.path = self._lines.path

    def write(self, record: EpisodeRecord) -> None:
        """Add one episode. Raises `RunAborted` where the disk is full."""
        self._lines.append(record.to_line())

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_episodes(path: str | Path) -> Iterator[EpisodeRecord]:
    """The episodes of a log; an incomplete line (of a killed run, or one being written) is left out.

    Raises:
        InputError: a whole line is no episode.
    """
    for number, line in enumerate(read_episode_lines(path), start=1):
        try:
            yield read_line(line)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, episode {number}: not an episode ({error!r})") from error


def read_episode_lines(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The lines that are whole JSON, not parsed further."""
    return read_finished(Path(path))
