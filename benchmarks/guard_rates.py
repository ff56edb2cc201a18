"""How often the collapse guard accuses a healthy run, and how soon it sees a falling reward: by simulation.

`python -m benchmarks.guard_rates [--runs 400] [--markdown docs/results/guard.md]`

Steps of a run are drawn as training makes them: each of G questions has a chance of success of its own, and the step's
reward is the mean over questions of eight samples each. The guard is the real one, fed with what a run feeds it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.results.page import markdown_table, replace_section
from foundation.cli import OneLineParser, positive, run_command
from r1_searcher.run.collapse_guard import SIGNS, Alarm, CollapseGuard

SAMPLES = 8
"""Samples per question."""
STEPS = (75, 200, 1000, 3000)
"""Lengths of healthy runs; Search-R1's published runs have 1,005 steps, ZeroSearch's 2,650 (their papers)."""
FALL_AT = 60
"""Step after which the reward falls, in runs that do."""
PATIENCE = 20
"""Steps within which a fall counts as seen."""


@dataclass(frozen=True)
class Course:
    """One kind of run: the chance of success over its steps."""

    name: str
    questions: int
    """Questions per step."""
    before: float
    """Mean chance of success until the fall."""
    after: float | None = None
    """The same after the fall; None: the reward does not fall."""
    rising: bool = False
    """Whether the chance rises from a tenth to `before` over the run's first half."""

    def mean(self, step: int, steps: int) -> float:
        """Chance of success at a step of a run of that many steps."""
        if self.after is not None and step > FALL_AT:
            return self.after
        share = min(2 * step / steps, 1.0) if self.rising else 1.0
        return 0.1 + (self.before - 0.1) * share


HEALTHY = (
    *(Course(f"constant {mean:g}", questions, mean) for questions in (8, 64) for mean in (0.5, 0.9, 0.97)),
    *(Course("rising to 0.95", questions, 0.95, rising=True) for questions in (8, 64)),
)
FALLING = tuple(
    Course(f"{before:g} to {after:g}", questions, before, after)
    for questions in (8, 64)
    for before, after in ((0.9, 0.0), (0.9, 0.45), (0.9, 0.65), (0.9, 0.75), (0.6, 0.3), (0.3, 0.1))
)


def steps_of(course: Course, steps: int, seed: int) -> Iterator[dict[str, float | None]]:
    """The values of each step: the mean reward, and its standard error from the questions' means."""
    rng = np.random.default_rng([seed, *course.name.encode()])
    means = np.array([[course.mean(step, steps)] for step in range(1, steps + 1)]).clip(1e-6, 1 - 1e-6)
    # Questions are easy or hard more often than in between.
    chances = rng.beta(1.5 * means, 1.5 * (1 - means), (steps, course.questions))
    rewards = rng.binomial(SAMPLES, chances) / SAMPLES
    errors = rewards.std(axis=1, ddof=1) / math.sqrt(course.questions)
    for reward, error in zip(rewards.mean(axis=1).tolist(), errors.tolist(), strict=True):
        yield {"reward": reward, "episodes/reward_error": error}


def first_alarm(course: Course, steps: int, seed: int) -> Alarm | None:
    """The first alarm of one simulated run."""
    guard = CollapseGuard([sign for sign in SIGNS if sign.name == "reward"])
    for step, values in enumerate(steps_of(course, steps, seed), start=1):
        for alarm in guard.observe(step, values):
            return alarm
    return None


def _first_step(task: tuple[Course, int, int]) -> int | None:
    alarm = first_alarm(*task)
    return alarm.step if alarm else None


def first_steps(course: Course, steps: int, runs: int, map_: Callable[..., Iterator[int | None]]) -> list[int | None]:
    """Step of the first alarm of each of `runs` runs, None where there is none."""
    return list(map_(_first_step, [(course, steps, seed) for seed in range(runs)], chunksize=16))


def false_alarms(runs: int, map_: Callable[..., Iterator[int | None]]) -> dict[Course, list[float]]:
    """Share of accused runs per course and length."""
    rows: dict[Course, list[float]] = {}
    for course in tqdm(HEALTHY, desc="healthy runs"):
        # One run of the longest length tells all shorter ones, but for the rising ones, whose slope depends on it.
        found = [first_steps(course, length, runs, map_) for length in (STEPS if course.rising else STEPS[-1:])]
        by_length = found if course.rising else found * len(STEPS)
        rows[course] = [
            sum(step is not None and step <= length for step in steps) / runs
            for length, steps in zip(STEPS, by_length, strict=True)
        ]
    return rows


def detections(runs: int, map_: Callable[..., Iterator[int | None]]) -> dict[Course, tuple[float, float | None]]:
    """Share of falls that are seen within `PATIENCE` steps, and the median number of steps until then."""
    rows: dict[Course, tuple[float, float | None]] = {}
    for course in tqdm(FALLING, desc="falling runs"):
        steps = first_steps(course, FALL_AT + PATIENCE, runs, map_)
        delays = [step - FALL_AT for step in steps if step is not None and step > FALL_AT]
        rows[course] = len(delays) / runs, statistics.median(delays) if delays else None
    return rows


def markdown(runs: int, healthy: dict[Course, list[float]], falling: dict[Course, tuple[float, float | None]]) -> str:
    """Both tables."""
    introduction = [
        "## How often the reward sign accuses a healthy run, and what it sees",
        "",
        f"`.venv/bin/python -m benchmarks.guard_rates --runs {runs}`: simulated runs, {SAMPLES} samples per question,",
        "the real guard.",
    ]
    accused = markdown_table(
        ("reward of a healthy run", "questions per step", *(f"{steps} steps" for steps in STEPS)),
        [
            (course.name, str(course.questions), *(f"{share:.1%}" for share in shares))
            for course, shares in healthy.items()
        ],
    )
    seen = markdown_table(
        (f"fall after step {FALL_AT}", "questions per step", f"seen within {PATIENCE} steps", "median steps"),
        [
            (course.name, str(course.questions), f"{share:.0%}", "" if delay is None else f"{delay:g}")
            for course, (share, delay) in falling.items()
        ],
    )
    return "\n\n".join(["\n".join(introduction), accused, seen])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.guard_rates", description=__doc__)
    parser.add_argument("--runs", type=positive, default=400, help="simulated runs per row (%(default)s)")
    parser.add_argument("--markdown", type=Path, help="page to write the tables to")
    options = parser.parse_args(argv)
    return run_command("benchmarks.guard_rates", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with ProcessPoolExecutor() as pool:
        text = markdown(options.runs, false_alarms(options.runs, pool.map), detections(options.runs, pool.map))
    print(text)
    if options.markdown:
        replace_section(options.markdown, "guard_rates", text)


if __name__ == "__main__":
    sys.exit(main())
