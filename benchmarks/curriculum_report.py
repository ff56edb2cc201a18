"""The noise that a simulated search engine made, against the curriculum's formula: `docs/results/curriculum.png`.

`python -m benchmarks.curriculum_report runs/recipes/zerosearch_seed0/run … --png docs/results/curriculum.png`
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from benchmarks.results.page import markdown_table
from data_prep.simulator.pairs import find_episodes
from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError
from foundation.files import read_json
from r1_searcher.run.episode_metrics import NOISY_PASSAGE
from r1_searcher.run.run_config import RetrieverConfig
from r1_searcher.run.run_folder import RunFolder
from retriever.simulated.engine import Noise
from retriever.sources import follows_progress

PARTS = 5
"""Into how many equal parts of its steps a run is cut for the table."""


@dataclass(frozen=True)
class SearchesOfStep:
    """The searches of one training step."""

    number: int
    searches: int
    noisy: int


@dataclass(frozen=True)
class CurriculumRun:
    """A run against a simulated engine."""

    name: str
    noise: Noise
    total_steps: int
    steps: tuple[SearchesOfStep, ...]

    @classmethod
    def read(cls, folder: Path) -> CurriculumRun:
        """The run in a folder.

        Raises:
            InputError: it is no run, or one that searched for real.
        """
        episodes = find_episodes(folder)
        run = read_json(RunFolder(folder).config_file)
        source = RetrieverConfig.from_mapping(run["retriever"]).source
        if not follows_progress(source):
            raise InputError(f"{folder} searched {source}, which is no simulated engine")
        noise = dict(parse_qsl(source.partition("?")[2])).get("noise", "")
        searches: Counter[int] = Counter()
        noisy: Counter[int] = Counter()
        for record in episodes.read():
            for search in record.trajectory.searches:
                if search.passage_ids and record.step is not None:
                    searches[record.step] += 1
                    noisy[record.step] += search.passage_ids[0].startswith(NOISY_PASSAGE)
        steps = tuple(SearchesOfStep(number, searches[number], noisy[number]) for number in sorted(searches))
        return cls(
            "/".join(folder.parts[-2:]), Noise(*map(float, noise.split(":"))) if noise else Noise(),
            int(run["total_steps"]), steps,
        )  # fmt: skip

    def expected(self, step: int) -> float:
        """The formula's share at a step."""
        return self.noise.share(step / self.total_steps)

    def deviation(self, first: int, last: int) -> tuple[int, float, float, float]:
        """Searches, realised share, expected share, and their distance in standard deviations, of these steps."""
        chosen = [step for step in self.steps if first <= step.number <= last]
        count = sum(step.searches for step in chosen)
        shares = [(self.expected(step.number), step.searches) for step in chosen]
        expected = sum(share * searches for share, searches in shares)
        spread = math.sqrt(sum(share * (1 - share) * searches for share, searches in shares))
        noisy = sum(step.noisy for step in chosen)
        return count, noisy / max(count, 1), expected / max(count, 1), (noisy - expected) / spread if spread else 0.0


def table(runs: Sequence[CurriculumRun]) -> str:
    """Realised and expected shares by parts of the training, as Markdown."""
    heads = ("run", "steps", "searches", "noisy, realised", "by the formula", "standard deviations")
    lines = []
    for run in runs:
        edges = [1 + run.total_steps * part // PARTS for part in range(PARTS + 1)]
        for first, after in zip(edges, edges[1:], strict=False):
            count, realised, expected, sigmas = run.deviation(first, after - 1)
            shares = (f"{realised:.3f}", f"{expected:.3f}", f"{sigmas:+.1f}")
            lines.append((run.name, f"{first}-{after - 1}", str(count), *shares))
    return markdown_table(heads, lines)


def plot(runs: Sequence[CurriculumRun], file: Path) -> None:
    """One dot per step and run, and the formula of each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for run in runs:
        numbers = [step.number for step in run.steps]
        axes.scatter(numbers, [step.noisy / step.searches for step in run.steps], s=14, alpha=0.7, label=run.name)
    for noise, total in dict.fromkeys((run.noise, run.total_steps) for run in runs):
        steps = range(1, total + 1)
        label = f"formula, {noise.start:g} to {noise.end:g}, base {noise.base:g}"
        axes.plot(steps, [noise.share(step / total) for step in steps], color="black", linewidth=1.2, label=label)
    axes.set(xlabel="training step", ylabel="share of searches with noisy documents", ylim=(0, None))
    axes.legend(frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    parser = OneLineParser(prog="benchmarks.curriculum_report", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs against a simulated engine")
    parser.add_argument("--png", type=Path, help="where the plot goes; default: the table alone")
    options = parser.parse_args(argv)
    return run_command("benchmarks.curriculum_report", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    runs = [CurriculumRun.read(folder) for folder in options.runs]
    print(table(runs))
    if options.png is not None:
        plot(runs, options.png)


if __name__ == "__main__":
    sys.exit(main())
