"""The episodes of a report: all of them, or a sample that is spread evenly over the sources."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.report.sources import Source, SourceKind
from r1_searcher.run.episode_log import read_episodes

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Line:
    """One line of an episode file."""

    source: Source
    content: Mapping[str, Any]
    replayed: bool
    """Whether a training came back to an earlier checkpoint, so that the episode was not trained on in the end."""


@dataclass(frozen=True)
class Selection:
    """Which lines of which files a report takes."""

    wanted: Mapping[Path, frozenset[int]]
    """File -> numbers of its lines, from 0."""
    available: Mapping[str, int]
    """Name of a source -> the episodes that it has."""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return sum(map(len, self.wanted.values())) == sum(self.available.values())


def select(sources: Sequence[Source], limit: int) -> Selection:
    """Choose at most `limit` episodes, the same ones for the same files.

    A source with few episodes keeps them all; the others share what is left.
    """
    counts = {source.name: {path: _count_lines(path) for path in source.episode_files} for source in sources}
    available = {name: sum(files.values()) for name, files in counts.items()}
    wanted: dict[Path, frozenset[int]] = {}
    left = limit
    for place, name in enumerate(sorted(available, key=lambda name: available[name])):
        quota = min(available[name], left // (len(available) - place))
        left -= quota
        wanted |= _spread(counts[name], quota)
    return Selection(wanted, available)


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


def read_lines(sources: Sequence[Source], selection: Selection) -> Iterator[Line]:
    """The selected episodes, source by source, with a progress bar.

    Lines that a killed process left incomplete are skipped, as everywhere.
    """
    total = sum(map(len, selection.wanted.values()))
    with tqdm(total=total, unit="episode", desc="reading", disable=None) as bar:
        for source in sources:
            for path in source.episode_files:
                replayed_after = _replayed_after(path, source)
                for number, content in enumerate(read_episodes(path)):
                    if number in selection.wanted[path]:
                        bar.update()
                        yield Line(source, content, _step(content) > replayed_after)


def _replayed_after(path: Path, source: Source) -> float:
    """Step of the checkpoint that a later attempt of this training began with.

    The name of a file begins with the step that its attempt began with (`r1_searcher.host.agent`).
    """
    if source.kind is SourceKind.EVALUATION:
        return float("inf")
    later = (_first_step(other) for other in source.episode_files)
    return min((step for step in later if step > _first_step(path)), default=float("inf"))


def _first_step(path: Path) -> int:
    first = path.name.split("-")[0]
    return int(first) if first.isdecimal() else 0


def _step(content: Mapping[str, Any]) -> int:
    step = content.get("step") if isinstance(content, Mapping) else None
    return step if isinstance(step, int) else 0
