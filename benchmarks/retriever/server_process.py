"""A server in a process of its own, for benchmarks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

_START_S = 300.0


class ServerProcess:
    """`python -m MODULE ... --ready-file FILE`, which can be killed and started again."""

    def __init__(self, module: str, *arguments: object) -> None:
        """Nothing is started yet; use `start`, and `kill` at the end."""
        self._folder = tempfile.TemporaryDirectory()
        self._ready, self._log = Path(self._folder.name) / "url", Path(self._folder.name) / "log"
        self._command = [sys.executable, "-m", module, *map(str, arguments), "--ready-file", str(self._ready)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return None if self._process is None else self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self._process is not None and self._ready.exists()

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self._ready.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self) -> str:
        """The URL, once it answers. Raises RuntimeError where it does not come up."""
        assert self._process is not None
        give_up_at = time.monotonic() + _START_S
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                log = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(self._command)} did not start: {log}")
            time.sleep(0.05)
        return self._ready.read_text(encoding="utf-8").strip()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
