"""The episodes of a report: all of them, or a sample that is spread evenly over the runs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.report.runs import ReportedRun, RunKind
from r1_searcher.run.episode_log import RunAttempt, read_episode_lines
from r1_searcher.run.episode_record import EpisodeRecord, read_line

_BLOCK = 1 << 20


@dataclass(frozen=True)
class ReportedEpisode:
    """An episode, and the run or evaluation that it is of."""

    run: ReportedRun
    record: EpisodeRecord
    replayed: bool
    """Whether a training came back to an earlier checkpoint, so that the episode was not trained on in the end."""


@dataclass(frozen=True)
class SampledLines:
    """Which lines of which files a report takes."""

    wanted: Mapping[Path, frozenset[int]]
    """File -> numbers of its lines, from 0."""
    available: Mapping[ReportedRun, int]
    """Run -> the episodes that it has."""


def select(runs: Sequence[ReportedRun], limit: int) -> SampledLines:
    """Choose at most `limit` episodes, the same ones for the same files.

    A run with few episodes keeps them all; the others share what is left.
    """
    counts = {run: {path: _count_lines(path) for path in run.episode_files} for run in runs}
    available = {run: sum(files.values()) for run, files in counts.items()}
    wanted: dict[Path, frozenset[int]] = {}
    left = limit
    for place, run in enumerate(sorted(available, key=lambda run: available[run])):
        quota = min(available[run], left // (len(available) - place))
        left -= quota
        wanted |= _spread(counts[run], quota)
    return SampledLines(wanted, available)


def _spread(files: Mapping[Path, int], quota: int) -> dict[Path, frozenset[int]]:
    """`quota` lines of these files, drawn uniformly."""
    lines = [(path, number) for path, count in files.items() for number in range(count)]
    chosen = lines if quota >= len(lines) else random.Random(0).sample(lines, quota)
    wanted: dict[Path, set[int]] = {path: set() for path in files}
    for path, number in chosen:
        wanted[path].add(number)
    return {path: frozenset(numbers) for path, numbers in wanted.items()}


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))


def read_selected(runs: Sequence[ReportedRun], selection: SampledLines) -> Iterator[ReportedEpisode | None]:
    """The selected episodes, run by run, with a progress bar; None for a line that is no episode.

    Lines that a killed process left incomplete are skipped, as everywhere.
    """
    total = sum(map(len, selection.wanted.values()))
    with tqdm(total=total, unit="episode", desc="reading", disable=None) as bar:
        for run in runs:
            for path in run.episode_files:
                replayed_after = _replayed_after(path, run)
                for number, line in enumerate(read_episode_lines(path)):
                    if number in selection.wanted[path]:
                        bar.update()
                        yield _episode(run, line, replayed_after)


def _episode(run: ReportedRun, line: Mapping[str, Any], replayed_after: float) -> ReportedEpisode | None:
    try:
        record = read_line(line)
    except (KeyError, TypeError, ValueError):
        return None
    return ReportedEpisode(run, record, (record.step or 0) > replayed_after)


def _replayed_after(path: Path, run: ReportedRun) -> float:
    """Step of the checkpoint that a later attempt of this training began with."""
    if run.kind is RunKind.EVALUATION:
        return float("inf")
    attempts = map(RunAttempt.of, run.episode_files)
    return min((attempt.first_step for attempt in attempts if attempt > RunAttempt.of(path)), default=float("inf"))
