"""`metrics.jsonl`: the host's TensorBoard scalars, one JSON line per step.

The event files are OpenRLHF's own record and are flushed as they grow; the JSON lines are a view of them that is
made anew each time, so a killed run loses none and a resumed one counts each step once, as last played. What earlier
attempts logged after the checkpoint that this one begins from is no part of the run any more: it is played again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.json_lines import read_strict, write_json_lines

PREFIX = "train/"


class MetricsLog:
    """Turns a TensorBoard folder into `metrics.jsonl`, during one attempt."""

    def __init__(self, tensorboard_dir: Path, metrics_file: Path, first_step: int = 0) -> None:
        """Look at what earlier attempts have logged, before this one logs anything.

        Args:
            tensorboard_dir: the run's event files.
            metrics_file: the file to write.
            first_step: global step of the checkpoint that this attempt begins from.
        """
        self._events = tensorboard_dir
        self._file = metrics_file
        self._first_step = first_step
        self._earlier = frozenset(self._event_files())
        self._sizes: dict[Path, int] = {}
        self.steps: dict[int, dict[str, Any]] = {}

    def refresh(self) -> Mapping[int, Mapping[str, Any]]:
        """Read what has been logged so far, rewrite the file where there is news, return step -> metrics."""
        sizes = {path: path.stat().st_size for path in self._event_files()}
        if sizes == self._sizes:
            return self.steps
        self._sizes = sizes
        steps = {step: line for path in sizes for step, line in self._steps_of(path).items()}
        if steps != self.steps:
            self.steps = steps
            write_json_lines(self._file, (steps[step] for step in sorted(steps)))
        return self.steps

    def _event_files(self) -> list[Path]:
        """The event files; a name begins with the time of its creation."""
        return sorted(self._events.rglob("events.out.tfevents.*"))

    def _steps_of(self, path: Path) -> dict[int, dict[str, Any]]:
        steps = _read_scalars(path)
        if path not in self._earlier:
            return steps
        return {step: line for step, line in steps.items() if step <= self._first_step}


def _read_scalars(path: Path) -> dict[int, dict[str, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps: dict[int, dict[str, Any]] = {}
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 1})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        if tag.startswith(PREFIX):
            for event in events.Scalars(tag):
                line = steps.setdefault(event.step, {"step": event.step, "time": event.wall_time})
                line[tag.removeprefix(PREFIX)] = event.value if math.isfinite(event.value) else None
    return steps


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, by step; the file is only ever written whole.

    Raises:
        InputError: the file is missing, or a line cannot be read.
    """
    return list(read_strict(path, dict))


def metrics_so_far(path: Path) -> list[dict[str, Any]]:
    """As `read_metrics`; none where the host has logged no step (`--logger.logging_steps`) and no file is there."""
    return read_metrics(path) if path.is_file() else []
