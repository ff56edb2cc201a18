"""Commands that run side by side, each with its output in a file."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import INTERRUPTED
from r1_searcher.launch.services import interrupt, start_command


class Commands:
    """A context in which threads run commands; leaving it ends those that still run, and no other starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._left = False

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._left = True
            running = tuple(self._running)
        interrupt(running)

    def run(self, command: Sequence[str], output: Path) -> int:
        """Run a command to its end; returns its status, also where leaving the context ended it.

        Args:
            output: what it says is added to this file.
        """
        with self._lock, output.open("ab") as file:
            if self._left:
                return INTERRUPTED
            process = start_command(command, stdout=file.fileno(), stderr=file.fileno())
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
