"""Why micro-batches by tokens need ZeRO-3: what the installed DeepSpeed does with two backward calls before a step."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("stage", "adds_up"), [(2, False), (3, True)])
def test_gradients_of_several_backward_calls(repo: Path, stage: int, adds_up: bool):
    program = repo / "tests" / "support" / "processes" / "two_backwards.py"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, str(program), str(stage), str(port)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("norms")), done.stderr[-2000:])
    both, last = map(float, line.split()[1:])
    assert (both > 5 * last) == adds_up and both >= last
