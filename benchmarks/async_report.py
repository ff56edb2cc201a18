"""Synchronous, asynchronous and partial rollout: a section of `docs/results/async.md`.

`python -m benchmarks.async_report runs/async --markdown docs/results/async.md`, from the runs of
`benchmarks/async_runs.sh`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results.page import markdown_table, section_from_runs, section_parser
from eval.results.folder import SCORES_FILE
from eval.results.scores import Scores
from foundation.cli import run_command
from foundation.json_lines import read_finished
from r1_searcher.run.metrics_log import read_metrics
from r1_searcher.run.run_folder import RunFolder

WAYS = ("sync", "async", "partial")
PARTS = 5
"""Into how many equal parts of its episodes a training curve is cut."""


@dataclass(frozen=True)
class AsyncRun:
    """One finished run."""

    way: str
    seed: int
    f1: Sequence[float]
    """Training F1 by step."""
    step_seconds: float
    """Median wall time from one step to the next."""
    off_policy: float
    """Median of `vllm_kl`: distance between the policy that sampled and the one that is trained."""
    scores: Scores
    warnings: Sequence[str]
    """Signs of a collapse that the guard saw, with their steps."""

    @classmethod
    def read(cls, folder: Path) -> AsyncRun:
        """The run in `WAY_seedN`."""
        way, _, seed = folder.name.rpartition("_seed")
        steps = read_metrics(RunFolder(folder / "run").metrics_file)
        gaps = [later["time"] - earlier["time"] for earlier, later in zip(steps, steps[1:], strict=False)]
        return cls(
            way,
            int(seed),
            [step["answer/f1"] for step in steps],
            statistics.median(gaps),
            statistics.median(abs(step.get("vllm_kl") or 0.0) for step in steps),
            Scores.read(folder / "final" / SCORES_FILE),
            _warnings(RunFolder(folder / "run").guard_file),
        )


def _warnings(file: Path) -> list[str]:
    rows = read_finished(file) if file.is_file() else []
    return [f"{row['sign']} (step {row['step']})" for row in rows]


def markdown(runs: Sequence[AsyncRun]) -> str:
    """The section."""
    shares = [f"F1 in {100 * n // PARTS}-{100 * (n + 1) // PARTS} %" for n in range(PARTS)]
    heads = [
        "rollout",
        "seed",
        "steps",
        "seconds per step",
        *shares,
        "held-out F1 greedy",
        "sampled",
        "median vllm_kl",
        "guard",
    ]
    lines: list[list[str]] = []
    for way in WAYS:
        chosen = sorted((run for run in runs if run.way == way), key=lambda run: run.seed)
        lines += [_line(run.way, str(run.seed), str(len(run.f1)), _figures(run), run.warnings) for run in chosen]
        if len(chosen) > 1:
            means = [statistics.mean(column) for column in zip(*map(_figures, chosen), strict=True)]
            lines.append(_line(f"**{way}**", "**mean**", "", means))
    return f"{_INTRODUCTION}\n{markdown_table(heads, lines)}"


def _figures(run: AsyncRun) -> list[float]:
    size = len(run.f1) / PARTS
    parts = [statistics.mean(run.f1[round(n * size) : round((n + 1) * size)]) for n in range(PARTS)]
    return [run.step_seconds, *parts, run.scores["greedy"]["f1"], run.scores["sampled"]["f1"], run.off_policy]


def _line(way: str, seed: str, steps: str, figures: Sequence[float], warnings: Sequence[str] = ()) -> list[str]:
    *most, last = figures
    return [way, seed, steps, *(f"{value:.2f}" for value in most), f"{last:.5f}", ", ".join(warnings)]


_INTRODUCTION = """\
## Synchronous, asynchronous and partial rollout

The tiny world, stage 2's reward from the base model, the same episodes in each way; log-probs of the policy that
sampled each token, importance correction per token. `bash benchmarks/async_runs.sh SEEDS`
makes this section.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    options = section_parser("benchmarks.async_report", __doc__).parse_args(argv)
    return run_command("benchmarks.async_report", lambda: section_from_runs("async", AsyncRun.read, markdown, options))


if __name__ == "__main__":
    sys.exit(main())
