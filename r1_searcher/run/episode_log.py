"""Finished episodes as JSON lines: one file per engine process of a run, one file per evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.json_lines import JsonLines, Tail, read_finished
from r1_searcher.run.episode_record import EpisodeRecord, read_line


@dataclass(frozen=True, order=True)
class RunAttempt:
    """An attempt at a run, as the names of its logs begin: `STEP.NUMBER-…`. A later one is greater."""

    number: int
    """From 1; 0 in names of earlier versions, which say the step alone."""
    first_step: int
    """Step of the checkpoint that it began from."""

    @classmethod
    def of(cls, log: Path) -> RunAttempt:
        """The attempt that wrote a log."""
        step, _, number = log.name.partition("-")[0].partition(".")
        return cls(*(int(text) if text.isdecimal() else 0 for text in (number, step)))

    def log_name(self, process: str) -> str:
        """The name of the log of one of its engine processes."""
        return f"{self.first_step:06d}.{self.number}-{process}.jsonl"


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
    """The episodes of a log, as `GrowingEpisodes` reads them."""
    return GrowingEpisodes(path).new()


class GrowingEpisodes:
    """Reads a log while it grows. An incomplete line (of a killed run, or one being written) is left out."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._tail = Tail(self._path)
        self._read = 0

    def new(self) -> Iterator[EpisodeRecord]:
        """The episodes that were finished since the last call.

        Raises:
            InputError: a whole line is no episode.
        """
        for line in self._tail.new_rows():
            self._read += 1
            try:
                yield read_line(line)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise InputError(f"{self._path}, episode {self._read}: not an episode ({error!r})") from error


def read_episode_lines(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The lines that are whole JSON, not parsed further."""
    return read_finished(Path(path))
