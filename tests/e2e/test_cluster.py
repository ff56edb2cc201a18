"""Training that joins a Ray cluster which `ray_start.sh` made, as on several machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

import psutil
import pytest
from support.e2e_stack import REPO, belongs_to

pytestmark = pytest.mark.e2e

# Logical GPUs: on a machine without any, Ray only counts them.
RESOURCES = ("--num-gpus", "2", "--num-cpus", "8", "--include-dashboard", "false", "--disable-usage-stats")


@pytest.fixture
def cluster():
    """A cluster of one node in a folder of its own, by which its processes are found.

    `ray stop` would end every Ray of this machine, a training run beside this test included.
    """
    folder = tempfile.mkdtemp(prefix="r1ray")  # short: Ray's sockets are below it
    command = ["bash", str(REPO / "train_scripts" / "ray_start.sh"), "head", "--temp-dir", folder, *RESOURCES]
    subprocess.run(command, check=True, env={**os.environ, "RAY_PORT": "6399"}, stdout=subprocess.DEVNULL)
    yield "127.0.0.1:6399"
    nodes = [process for process in psutil.process_iter() if belongs_to(process, folder)]
    for process in nodes:
        process.kill()
    psutil.wait_procs(nodes, timeout=20)
    shutil.rmtree(folder, ignore_errors=True)


def test_training_joins_a_running_cluster(training, world, retriever, cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    run = training(1, world / "stage1.jsonl", retriever.url)
    assert run.finish() == 0, run.console[-2000:]
    assert run.steps() == 2 and (run.run_dir / "model" / "config.json").is_file()
