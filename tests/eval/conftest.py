"""A tiny world and its search service, for the tests that run real engines."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "world"
    subprocess.run([sys.executable, "-m", "data_prep.tiny_world", "--out", folder, "--seed", "0"], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def retriever_url(world) -> Iterator[str]:
    ready = world / "url.txt"
    arguments = [
        "--corpus",
        world / "corpus.jsonl",
        "--backend",
        "bm25",
        "--port",
        "0",
        "--ready-file",
        ready,
    ]
    server = subprocess.Popen([sys.executable, "-m", "retriever.server", *arguments], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not ready.is_file():
            assert server.poll() is None and time.monotonic() < deadline, "the retriever did not start"
            time.sleep(0.1)
        yield ready.read_text().strip()
    finally:
        server.terminate()
        server.wait(timeout=30)
