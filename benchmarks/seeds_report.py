"""Table and picture of several quickstarts with and without the document mask.

`python -m benchmarks.seeds_report DIR --markdown FILE --picture FILE`; DIR is filled by `quickstart_seeds.sh`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.numbers import distance_of_engine
from benchmarks.results.page import markdown_table, replace_section, section_parser
from eval.results.folder import SCORES_FILE
from eval.results.scores import Scores
from foundation.cli import run_command
from foundation.errors import InputError
from r1_searcher.run.metrics_log import read_metrics
from r1_searcher.run.run_folder import RunFolder

MODELS = ("base", "stage1", "stage2")
DECODINGS = ("greedy", "sampled")
ARMS = {"mask": "documents masked out of the loss", "nomask": "documents in the loss"}
CURVES = {"answer/f1": "answer F1", "format/rate": "format rate", "retrieval/rate": "retrieval rate"}


@dataclass(frozen=True)
class QuickstartSeed:
    """One seed of one arm."""

    arm: str
    seed: int
    scores: Mapping[str, Scores]
    """By model."""
    metrics: Sequence[Mapping[str, Any]]
    """Training metrics of both stages, in order."""
    stage1_steps: int


def read_quickstart(folder: Path, arm: str) -> QuickstartSeed:
    """A finished quickstart's folder."""
    stages = [read_metrics(RunFolder(folder / run).metrics_file) for run in ("stage1_run", "stage2_run")]
    scores = {model: Scores.read(folder / model / SCORES_FILE) for model in MODELS}
    return QuickstartSeed(arm, int(folder.name.removeprefix(arm)), scores, [*stages[0], *stages[1]], len(stages[0]))


def markdown(runs: Sequence[QuickstartSeed], picture: str) -> str:
    """The section of `docs/results/quickstart.md`."""
    seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
    compared = ", with and without the document mask" if len({run.arm for run in runs}) > 1 else ""
    parts = [
        f"## R1-Searcher in the tiny world: two stages{compared}\n",
        _INTRODUCTION.format(seeds=f"seeds {seeds}" if "," in seeds else f"seed {seeds}"),
        f"![Training curves{compared}]({picture})\n",
    ]
    for arm, meaning in ARMS.items():
        chosen = [run for run in runs if run.arm == arm]
        if chosen:
            parts += [
                f"### {meaning[0].upper()}{meaning[1:]}\n",
                _table(chosen),
                distance_of_engine(line for run in chosen for line in run.metrics),
            ]
    return "\n".join(parts)


def _table(runs: Sequence[QuickstartSeed]) -> str:
    heads = ["model", "decoding", "seed", "retrieval", "format", "EM", "F1", "F1 one hop", "F1 two hops", "searches"]
    lines: list[list[str]] = []
    for model in MODELS:
        for decoding in DECODINGS:
            rows = [_figures(run.scores[model][decoding]) for run in runs]
            for run, row in zip(runs, rows, strict=True):
                lines.append(_line(model, decoding, str(run.seed), row))
            if len(rows) > 1:
                means = [statistics.mean(column) for column in zip(*rows, strict=True)]
                lines.append(_line(f"**{model}**", f"**{decoding}**", "**mean**", means))
    return markdown_table(heads, lines) + "\n"


def _figures(block: Mapping[str, Any]) -> list[float]:
    hops = block["by_hops"]
    names = ("retrieval_rate", "format_rate", "em", "f1")
    return [*(block[name] for name in names), hops["1"]["f1"], hops["2"]["f1"], block["searches_per_question"]]


def _line(model: str, decoding: str, seed: str, figures: Sequence[float]) -> list[str]:
    return [model, decoding, seed, *(f"{value:.2f}" for value in figures)]


def draw(runs: Sequence[QuickstartSeed], path: Path) -> None:
    """Training curves of both arms, one panel per metric: a thin line per seed, the mean in bold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CURVES), figsize=(12, 4), sharey=True, layout="constrained")
    for axis, (metric, title) in zip(axes, CURVES.items(), strict=True):
        for colour, (arm, meaning) in zip(("#0072B2", "#D55E00"), ARMS.items(), strict=True):
            curves = [_smooth([line[metric] for line in run.metrics]) for run in runs if run.arm == arm]
            for curve in curves:
                axis.plot(range(1, len(curve) + 1), curve, color=colour, alpha=0.3, linewidth=1)
            if curves:
                mean = [statistics.mean(values) for values in zip(*curves, strict=False)]
                axis.plot(range(1, len(mean) + 1), mean, color=colour, linewidth=2.2, label=meaning)
        for border in {run.stage1_steps for run in runs}:
            axis.axvline(border + 0.5, color="0.6", linestyle="--", linewidth=1)
        axis.set(title=title, xlabel="training step (stage 2 right of the line)", ylim=(-0.02, 1.04))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="lower right", frameon=False, fontsize=9)
    figure.savefig(path, dpi=100)


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    return [statistics.mean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]


_INTRODUCTION = """\
The quickstart with {seeds}, on two CPU cores (`bash benchmarks/quickstart_seeds.sh` makes this section). A
seed draws the world's facts, the questions and their order; names and base model are the same for all. 12 steps of
stage 1 and 75 of stage 2, 8 questions x 8 samples each; evaluation on 250 held-out questions about entities that the
base model has never seen, and about which training's index has no passage. Greedy is temperature 0, sampled
temperature 1.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = section_parser("benchmarks.seeds_report", __doc__)
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args(argv)
    return run_command("benchmarks.seeds_report", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    runs = [
        read_quickstart(folder, arm)
        for arm in ARMS
        for folder in sorted(options.folder.glob(f"{arm}[0-9]*"))
        if (folder / "stage2" / "scores.json").is_file()
    ]
    if not runs:
        raise InputError(f"no finished quickstart in {options.folder}")
    draw(runs, options.picture)
    replace_section(options.markdown, "seeds", markdown(runs, options.picture.name))


if __name__ == "__main__":
    sys.exit(main())
