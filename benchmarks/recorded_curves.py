"""The recorded runs that the collapse guard is tested with, as a picture and a table.

`python -m benchmarks.recorded_curves tests/r1_searcher/run/collapse_guard --png docs/results/grid.png` draws GRPO
before (`fault_SYSTEM_seedN.jsonl`) and after (`healthy_SYSTEM_seedN.jsonl`) rewards were handed over on a grid.
`--markdown docs/results/guard.md` lists the guard's alarms of every record. `--record RUN NAME` first adds a run's
steps to them, as `NAME.jsonl`: the numbers that the guard reads, and F1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results.numbers import short
from benchmarks.results.page import markdown_table, replace_section
from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError
from foundation.json_lines import read_finished, write_json_lines
from r1_searcher.run.collapse_guard import SIGNS, CollapseGuard
from r1_searcher.run.metrics_log import read_metrics
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.run_guard import with_signals

SYSTEMS = ("research", "deep_researcher")
"""The tiny presets with `group_norm` and rewards that are no few binary digits."""
TIMES = {"fault": "before", "healthy": "after"}
"""Kind of record, by the first word of its name, to what the legend calls it."""
CURVES = {"reward": "mean reward of a step", "policy_loss": "policy loss"}
LOSS = 0.5
"""Share of its best held-out F1 that a run has lost when it counts as collapsed."""


@dataclass(frozen=True)
class Record:
    """The steps of one run."""

    kind: str
    system: str
    seed: int
    steps: Sequence[Mapping[str, float]]

    @classmethod
    def read(cls, file: Path) -> Record:
        """The record in `KIND_SYSTEM_seedN.jsonl`."""
        name, _, seed = file.stem.rpartition("_seed")
        kind, _, system = name.partition("_")
        return cls(kind, system, int(seed), list(read_finished(file)))


def record(run: Path, file: Path) -> None:
    """Write what the guard read of a run, and its training F1, one line per step."""
    folder = RunFolder(run)
    wanted = {"step", "answer/f1", *(name for sign in SIGNS for name in (sign.metric, sign.error) if name)}
    steps = with_signals(read_metrics(folder.metrics_file), folder.signals_file)
    if not steps:
        raise InputError(f"{run} holds no steps; give the folder of a run (--run-dir)")
    write_json_lines(file, ({key: short(step[key]) for key in sorted(wanted & step.keys())} for step in steps))


def records_in(folder: Path) -> list[Record]:
    """The records of `SYSTEMS`. Raises `InputError` where there is none."""
    paths = [path for kind in TIMES for system in SYSTEMS for path in sorted(folder.glob(f"{kind}_{system}_seed*"))]
    if not paths:
        raise InputError(f"{folder} holds no record of {' or '.join(SYSTEMS)}")
    return [Record.read(path) for path in paths]


def markdown(folder: Path) -> str:
    """A line per record: what the guard says, and when its F1 was lost."""
    lines = []
    for file in sorted(folder.glob("*.jsonl")):
        steps = list(read_finished(file))
        guard = CollapseGuard()
        alarms = [alarm for step in steps for alarm in guard.observe(step["step"], step)]
        told = ", ".join(f"{alarm.sign.name} ({alarm.step})" for alarm in alarms)
        lines.append((file.stem.replace("_", " "), str(len(steps)), told, _lost(steps)))
    return _INTRODUCTION + markdown_table(("run", "steps", "signs (step)", "held-out F1 is lost at step"), lines)


def _lost(steps: Sequence[Mapping[str, float]]) -> str:
    """The first step with half of the best held-out F1 so far, or less; empty where there is none."""
    best = 0.0
    for step in steps:
        score = step.get("heldout_f1")
        if score is not None:
            best = max(best, score)
            if score <= (1 - LOSS) * best:
                return str(step["step"])
    return ""


_INTRODUCTION = """\
## What it says of recorded runs

All of its signs, on the steps of real runs of the tiny world. *Collapse* runs have an absurd learning rate and were
evaluated after each step; F1 is lost where half of its best is. *Fault* runs are from before rewards were handed over
on a grid. This makes the table again:

```bash
.venv/bin/python -m benchmarks.recorded_curves tests/r1_searcher/run/collapse_guard --markdown docs/results/guard.md
```

"""


def draw(records: Sequence[Record], file: Path) -> None:
    """A column per system, a row per curve, a line per run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    systems = [system for system in SYSTEMS if any(each.system == system for each in records)]
    figure, grid = pyplot.subplots(
        len(CURVES), len(systems), figsize=(12, 6), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for axes, (metric, title) in zip(grid, CURVES.items(), strict=True):
        for axis, system in zip(axes, systems, strict=True):
            for run in (each for each in records if each.system == system):
                colour = {"fault": "#D55E00", "healthy": "#0072B2"}[run.kind]
                style = "-" if run.seed % 2 == 0 else "--"
                label = f"{TIMES[run.kind]}, seed {run.seed}"
                axis.plot([step["step"] for step in run.steps], [step[metric] for step in run.steps],
                          color=colour, linestyle=style, linewidth=1.4, label=label)  # fmt: skip
            axis.set(title=f"{system}: {title}")
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    for axis in grid[-1]:
        axis.set(xlabel="training step")
        axis.legend(frameon=False, fontsize=9)
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.recorded_curves", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the records lie")
    parser.add_argument("--png", type=Path, help="where the picture goes")
    parser.add_argument("--markdown", type=Path, help="page that the table is written to")
    parser.add_argument("--record", nargs=2, metavar=("RUN", "NAME"), help="add a run's steps as NAME.jsonl first")
    options = parser.parse_args(argv)
    return run_command("benchmarks.recorded_curves", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.record is not None:
        run, name = options.record
        record(Path(run), options.folder / f"{name}.jsonl")
    if options.png is not None:
        draw(records_in(options.folder), options.png)
    if options.markdown is not None:
        replace_section(options.markdown, "recorded_runs", markdown(options.folder))


if __name__ == "__main__":
    sys.exit(main())
