"""Processes that a command starts beside its own work, and that end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from foundation.errors import RunAborted
from foundation.process import starter_environment

POLL_SECONDS = 0.1
STOP_SECONDS = 40.0
"""How long a process may take to end when asked, before it is killed; a trainer allows its own processes 30 s."""
SHOWN_CHARACTERS = 3000
"""Of the log of a service that did not start."""


class Services:
    """A context in which services run; leaving it, also by Ctrl-C or SIGTERM, ends them.

    Every process gets a session of its own, so that Ctrl-C in a terminal reaches it through this class only.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="r1_searcher_services_")
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Services:
        self._signals = left_by_sigterm()
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        end(self._running, signal.SIGTERM)
        self._folder.cleanup()
        self._signals.__exit__(None, None, None)

    def start(self, name: str, module: str, *arguments: str) -> str:
        """Start a server of this project and wait until it answers; returns its URL.

        The module must take `--port`, `--ready-file` and `--exit-with-parent`, which ends it also where this process
        is killed.

        Raises:
            RunAborted: it ended before it answered; the end of its log is on stderr.
        """
        ready, log = Path(self._folder.name, f"{name}.url"), Path(self._folder.name, f"{name}.log")
        command = [sys.executable, "-m", module, *arguments, "--port", "0", "--ready-file", str(ready)]
        command += ["--exit-with-parent", str(os.getpid())]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._running.append(process)
        while not ready.is_file():
            if process.poll() is not None:
                said = log.read_text(encoding="utf-8", errors="replace")[-SHOWN_CHARACTERS:].strip()
                print(said, file=sys.stderr)
                raise RunAborted(f"the {name} ended with status {process.returncode} before it answered; see above")
            time.sleep(POLL_SECONDS)
        url = ready.read_text(encoding="utf-8").strip()
        print(f"{name}: {url}", file=sys.stderr)
        return url


@contextlib.contextmanager
def left_by_sigterm() -> Iterator[None]:
    """A context that SIGTERM leaves as Ctrl-C does, with status 143, so that what it started is ended."""
    previous = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def start_command(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; where this process is killed, a command of this project ends itself."""
    inherited = os.environ if environment is None else environment
    return subprocess.Popen(
        command, env={**inherited, **starter_environment()}, stdout=stdout, stderr=stderr, start_new_session=True
    )


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, *, stdout: int | None = None) -> int:
    """Run a command to its end; returns its status.

    Where this process is stopped, so is everything in the command's group.
    """
    process = start_command(command, environment, stdout=stdout)
    try:
        return process.wait()
    except BaseException:
        interrupt([process])
        raise


def run_module(module: str, *arguments: str) -> None:
    """Run a command of this project; its output goes to stderr. Raises `RunAborted` unless it ends with status 0."""
    status = run([sys.executable, "-m", module, *arguments], stdout=sys.stderr.fileno())
    if status != 0:
        raise RunAborted(f"{module} ended with status {status}; see above")


def interrupt(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End commands by what Ctrl-C sends, because Python programs end their own processes on it."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in a shell's background job
    end(processes, signal.SIGTERM if ignored else signal.SIGINT)


def end(processes: Iterable[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Send a signal to the groups of those that still run; whoever has not ended after `STOP_SECONDS` is killed."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        _send(process, number)
    last = time.monotonic() + STOP_SECONDS
    for process in left:
        try:
            process.wait(max(0.0, last - time.monotonic()))
        except subprocess.TimeoutExpired:
            _send(process, signal.SIGKILL)
            process.wait()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
