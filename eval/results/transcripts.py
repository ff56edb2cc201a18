"""Trajectories from files: our own rows, and the published ones (question, answer, completion)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.jsonl import iter_parsed
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.episode.trajectory_json import from_mapping
from r1_searcher.episode.transcript_import import import_transcript


def trajectory_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and the `*.jsonl` of the folders in order of their names.

    Raises:
        InputError: a path is missing, or a folder holds no such file.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise InputError(f"no trajectories at {path} (expected a JSONL file, or a folder of them)")
        files += found
    return files


def read_trajectories(path: Path, protocol: Protocol) -> Iterator[Trajectory]:
    """The trajectories of a file, in order.

    Raises:
        InputError: as `foundation.jsonl.iter_parsed`.
    """
    return iter_parsed(path, lambda line: trajectory_of(line, protocol))


def trajectory_of(line: Mapping[str, Any], protocol: Protocol) -> Trajectory:
    """One line of either form; a finished text's document blocks are recovered as the protocol wraps them.

    Raises:
        ValueError, KeyError, TypeError: the object is neither.
    """
    if "spans" in line:
        return from_mapping(line)
    completion = line.get("completion")
    if not isinstance(completion, str):
        raise ValueError(f"expected 'spans' (our own rows) or 'completion' (published ones), found {sorted(line)}")
    return import_transcript(completion, QARow.from_mapping(line), protocol)
