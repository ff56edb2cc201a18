"""Runs a program of this folder that is the only rank of a DeepSpeed job, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def printed_lines(program: str, *words: str, beginning: str) -> list[str]:
    """The lines that it prints with this beginning, without it. Fails where the program does."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [sys.executable, str(HERE / program), *words],
        capture_output=True,
        text=True,
        env={**os.environ, **rank, "PATH": path, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(HERE.parents[2])},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.removeprefix(beginning) for line in done.stdout.splitlines() if line.startswith(beginning)]
