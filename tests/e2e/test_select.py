"""Difficulty selection with the real tiny model and retriever: killed, resumed, and rebuilt from its manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes.e2e_stack import REPO, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

OUTPUTS = ("questions.jsonl", "stage1.jsonl", "stage2.jsonl")
BOUNDS = ["--k", "4", "--closed-book-k", "2", "--easy-below", "2", "--hard-above", "4"]
STAGES = ["--stage1", "*:medium=4", "--stage2", "*:medium=all", "*:hard=all"]


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts the command; none is left after the test."""
    started: list[subprocess.Popen] = []

    def begin(*arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "data_prep.select", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(REPO)}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **output))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def finish(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, output
    return output


def lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def test_the_same_sets_uninterrupted_killed_and_rebuilt(start, world, model, retriever, tmp_path):
    recipes = ["--recipe", "tiny.stage2", "--closed-book", "tiny.closed_book"]
    given = ["--data", world / "stage1.jsonl", "--model", model, "--retriever-url", retriever.url, *recipes]
    given += [*BOUNDS, *STAGES, "--concurrency", 8]
    whole, killed, rebuilt = (tmp_path / name for name in ("whole", "killed", "rebuilt"))
    finish(start(*given, "--out", whole))
    manifest = json.loads((whole / "manifest.json").read_text())
    counts = next(iter(manifest["counts"].values()))
    assert sum(counts.values()) == 16 and sum(count > 0 for count in counts.values()) >= 2, counts

    process = start(*given, "--out", killed)
    half = lines_in(whole / "rollouts.jsonl") // 2
    wait_until(lambda: lines_in(killed / "rollouts.jsonl") >= half, 120, "half of the rollouts")
    process.kill()
    process.communicate()
    before = lines_in(killed / "rollouts.jsonl")
    assert half <= before < lines_in(whole / "rollouts.jsonl") and not (killed / "manifest.json").exists()
    finish(start(*given, "--out", killed))
    for name in OUTPUTS:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name

    retriever.kill()  # the rollouts lie beside the manifest: nothing is played
    assert "the sets are those of" in finish(start("--from-manifest", whole / "manifest.json", "--out", rebuilt))
    for name in OUTPUTS:
        assert (rebuilt / name).read_bytes() == (whole / name).read_bytes(), name
