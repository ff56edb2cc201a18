"""Training that joins a Ray cluster which ``ray_start.sh`` made, as on several machines."""

from __future__ import annotations

import os
import subprocess

import pytest
from conftest import REPO

pytestmark = pytest.mark.e2e

# Logical GPUs: on a machine without any, Ray only counts them.
RESOURCES = ("--num-gpus", "2", "--num-cpus", "8", "--include-dashboard", "false", "--disable-usage-stats")


@pytest.fixture
def cluster():
    script = ["bash", str(REPO / "train_scripts" / "ray_start.sh")]
    port = {**os.environ, "RAY_PORT": "6399"}
    subprocess.run([*script, "head", *RESOURCES], check=True, env=port, stdout=subprocess.DEVNULL)
    yield "127.0.0.1:6399"
    subprocess.run([*script, "stop", "--force"], check=True, stdout=subprocess.DEVNULL)


def test_training_joins_a_running_cluster(training, world, retriever, cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    run = training(1, world / "stage1.jsonl", retriever.url)
    assert run.finish() == 0, run.console[-2000:]
    assert run.steps() == 2 and (run.run_dir / "model" / "config.json").is_file()
