"""One training on a machine where everything is odd at once: what a unit test cannot know is what Ray, vLLM, DeepSpeed
and datasets make of it."""

from __future__ import annotations

import dataclasses

import pytest
from support.processes.e2e_stack import Training

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

NAME = "Übung 東京 (1) it's " + "x" * 150
"""Of the folder of runs: blanks, quotation marks, letters of other scripts, 200 bytes."""


def test_a_long_tmpdir_an_odd_run_folder_a_proxy_and_no_home(training, world, retriever, tmp_path, monkeypatch):
    """SLURM's job folders (Ray's sockets have 107 bytes), a cluster's proxy, `docker run --user 1234`."""
    job = tmp_path / ("j" * 90)
    for folder in (job, tmp_path / NAME):
        folder.mkdir()
    for name, value in {"TMPDIR": str(job), "HOME": "", "http_proxy": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RAY_TMPDIR", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    usual = training(1, world / "stage1.jsonl", retriever.url, "--data.max_samples", "8")
    run_dir = tmp_path / NAME / "run"
    words = [str(run_dir) if word == str(usual.run_dir) else word for word in usual.command]
    run: Training = dataclasses.replace(usual, run_dir=run_dir, command=tuple(words))
    assert run.finish(1800) == 0, run.console[-2000:]
    assert run.steps() == 1 and (run_dir / "model" / "config.json").is_file()
    assert "TMPDIR is" in run.console and "RAY_TMPDIR" in run.console
