"""A small corpus, and benchmarks run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retriever.index.corpus import write_corpus
from retriever.passage import Passage


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "passages.jsonl"
    write_corpus(file, [Passage(str(i), f"Title {i}", f"text number {i} " + "word " * (i % 30)) for i in range(300)])
    return file


@pytest.fixture
def benchmark_result(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the module of a benchmark with these flags; gives what it writes as JSON."""

    def run(module: str, *flags: object) -> dict[str, Any]:
        out = tmp_path / "result.json"
        command = [sys.executable, "-m", module, *map(str, flags), "--json", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(out.read_text())

    return run
