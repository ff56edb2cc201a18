"""`metrics.jsonl`: the host's TensorBoard scalars, one JSON line per step.

The event files are OpenRLHF's own record and are flushed as they grow; the JSON lines are a view of them that is
made anew each time, so a killed run loses none and a resumed one (which repeats the steps after its checkpoint)
counts each step once, as last played.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.json_lines import read_strict, write_json_lines

PREFIX = "train/"


class MetricsLog:
    """Turns a TensorBoard folder into `metrics.jsonl`."""

    def __init__(self, tensorboard_dir: Path, metrics_file: Path) -> None:
        self._events = tensorboard_dir
        self._file = metrics_file
        self._sizes: dict[Path, int] = {}
        self.steps: dict[int, dict[str, Any]] = {}

    def refresh(self) -> Mapping[int, Mapping[str, Any]]:
        """Read what has been logged so far, rewrite the file where there is news, return step -> metrics."""
        files = sorted(self._events.rglob("events.out.tfevents.*"))  # the name begins with the time of creation
        sizes = {path: path.stat().st_size for path in files}
        if sizes == self._sizes:
            return self.steps
        self._sizes = sizes
        steps = {step: line for path in files for step, line in _read_scalars(path).items()}
        if steps != self.steps:
            self.steps = steps
            write_json_lines(self._file, (steps[step] for step in sorted(steps)))
        return self.steps


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
