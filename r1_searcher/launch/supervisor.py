"""Watches OpenRLHF's process: a progress bar from its metrics, its log in a file, its end in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from foundation.cli import ABORTED, BAD_INPUT, GUARDED
from r1_searcher.host.device import Device
from r1_searcher.launch.processes import ProcessSession
from r1_searcher.run.checkpoints import rotate_saved_models
from r1_searcher.run.metrics_log import MetricsLog
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.run_guard import RunGuard

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
STOP_SECONDS = 20.0
"""How long the driver may take to end after a signal before it is killed."""
SHOWN = {"reward": "reward", "retrieval/rate": "retrieval", "format/rate": "format", "answer/f1": "f1"}
"""Metrics in the progress bar, under short names."""


@dataclass
class Supervisor:
    """One OpenRLHF process and its run folder."""

    folder: RunFolder
    argv: Sequence[str]
    device: Device
    gpus: int
    total_steps: int
    verbose: bool = False
    """True sends OpenRLHF's output to the console instead of the log file."""
    guard: RunGuard | None = None
    """Looks at every step for signs of a collapse, and may end the run."""
    kept_models: int = 3
    """Models saved on the way that are kept where there are no checkpoints beside them."""

    def run(self) -> int:
        """Run to the end; returns the exit status. No process of the run outlives this call."""
        metrics = MetricsLog(self.folder.tensorboard, self.folder.metrics_file, self.folder.last_step)
        with self._output() as output, _Driver(self.command(), output) as driver:
            session = driver.session.noted(self.folder.session_file)
            with tqdm(total=self.total_steps, initial=self.folder.last_step, unit="step", desc="training") as bar:
                collapsed = False
                while driver.process.poll() is None and driver.stopped_by is None and not collapsed:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        driver.process.wait(POLL_SECONDS)
                    session = session.noted(self.folder.session_file)
                    collapsed = self._watch(bar, metrics)
                self._watch(bar, metrics)
        self.folder.session_file.unlink(missing_ok=True)  # none of its processes is left
        if collapsed and self.guard is not None:
            print(f"r1_searcher.train: {self.guard.conclude(metrics.steps)}", file=sys.stderr)
            return GUARDED
        return self._report(driver)

    def _watch(self, bar: Any, metrics: MetricsLog) -> bool:
        """Show what is new; whether the guard wants the run to end."""
        steps = metrics.refresh()
        _show(bar, steps)
        rotate_saved_models(self.folder, self.kept_models)
        return self.guard is not None and self.guard.look(steps)

    def command(self) -> list[str]:
        """The driver's command line."""
        config = str(self.folder.config_file)
        driver = [sys.executable, "-m", "r1_searcher.host.driver"]
        return [*driver, str(os.getpid()), config, self.device.value, str(self.gpus), *self.argv]

    @contextlib.contextmanager
    def _output(self) -> Iterator[Any]:
        if self.verbose:
            yield None
            return
        with self.folder.log_file.open("ab") as file:
            yield file

    def _report(self, driver: _Driver) -> int:
        status = driver.process.returncode
        if status < 0:
            cause = "killed by " + signal.Signals(-status).name + (" (out of memory?)" if status == -9 else "")
            status = 128 - status
        else:
            cause = f"ended with status {status}"
        if driver.stopped_by is not None:
            print(f"stopped by {driver.stopped_by.name}; run the same command again to resume", file=sys.stderr)
            return 128 + driver.stopped_by
        if status in (ABORTED, BAD_INPUT) and not self.verbose:
            print(_last_line(self.folder.log_file, "r1_searcher.train: "), file=sys.stderr)
        elif status != 0 and not self.verbose:
            print(
                f"r1_searcher.train: OpenRLHF {cause}; the reason is in {self.folder.log_file}:\n"
                + _tail(self.folder.log_file),
                file=sys.stderr,
            )
        return status


class _Driver:
    """The child process, in a session of its own (Ctrl-C reaches it through us), and all that it starts."""

    def __init__(self, command: Sequence[str], output: Any) -> None:
        self.stopped_by: signal.Signals | None = None
        self.process: Any = None
        """A `subprocess.Popen`, inside of the context."""
        self._start = partial(
            subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def __enter__(self) -> _Driver:
        # A closed terminal is a stop, too, unless nohup said that it is none.
        hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
        numbers = [signal.SIGINT, signal.SIGTERM, *hangup]
        # Before there is a process: a signal that found none of these would end this one alone.
        self._previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            self.process = self._start()
        except BaseException:
            self._restore()
            raise
        if self.stopped_by is not None:
            self.process.terminate()
        self.session = ProcessSession.led_by(self.process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.session.end()
        self.process.wait()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = signal.Signals(number)
        if self.process is not None:
            self.process.terminate()


def _show(bar: Any, steps: Mapping[int, Mapping[str, Any]]) -> None:
    if not steps:
        return
    last = max(steps)
    bar.update(max(last - bar.n, 0))  # the last one logged may be earlier than the checkpoint
    values = {short: steps[last].get(name) for name, short in SHOWN.items()}
    bar.set_postfix({short: f"{value:.2f}" for short, value in values.items() if value is not None})


def _last_line(path: Path, prefix: str) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith(prefix)), lines[-1] if lines else "")


def _tail(path: Path, lines: int = 25) -> str:
    """The last lines, without the tables in which Ray describes itself when it dies."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join([line for line in text.splitlines() if "[state-dump]" not in line][-lines:])
