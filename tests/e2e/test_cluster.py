"""Training on a Ray cluster of two nodes that `ray_start.sh` made, as on several machines.

Both nodes are on this machine. The second has a view of the file system of its own, in which one folder is empty and
one file of the project can be changed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.hostile.canaries import MARK, VARIABLES, WANDB_KEY, command_lines_with, files_with, with_password
from support.processes.e2e_stack import REPO, belongs_to

from foundation.process import reachable_address
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.run_config import RetrieverConfig, RunConfig

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ADDRESS = "127.0.0.1:6399"
SCRIPT = REPO / "train_scripts" / "ray_start.sh"
# One logical GPU each, so that trainer and engine are on different nodes: on a machine without any, Ray only counts.
RESOURCES = ("--num-gpus", "1", "--num-cpus", "4", "--disable-usage-stats")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Two nodes."""

    folder: Path
    """Ray's, by which the nodes' processes are found."""
    hidden: Path
    """A folder that is empty on the second node."""
    token_file: Path
    second: psutil.Process
    """A process of the second node."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """`ray stop` would end every Ray of this machine, a training run beside this test included."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("a second view of the file system needs root (unshare --mount)")
    folder, home, hidden = Path(tempfile.mkdtemp(prefix="r1ray")), *map(tmp_path_factory.mktemp, ("home", "hidden"))
    started = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # On busy machines its helpers need longer than Ray gives them.
    started |= {"RAY_PORT": "6399", "HOME": str(home), "RAY_agent_register_timeout_ms": "120000"}
    quiet = ("--include-dashboard", "false", "--no-monitor")
    head = ["bash", str(SCRIPT), "head", "--temp-dir", str(folder), *quiet, *RESOURCES]
    subprocess.run(head, check=True, env=started, stdout=subprocess.DEVNULL)
    before = {process.pid for process in _nodes(folder)}
    worker = f'mount -t tmpfs none "$1" && exec bash "{SCRIPT}" worker {ADDRESS} {" ".join(RESOURCES)}'
    unshared = ["unshare", "--mount", "bash", "-c", worker, "bash", str(hidden)]
    subprocess.run(unshared, check=True, env=started, stdout=subprocess.DEVNULL)
    second = next(each for each in _nodes(folder) if each.pid not in before and each.name() == "raylet")
    yield Cluster(folder, hidden, home / ".ray" / "auth_token", second)
    nodes = _nodes(folder)
    for process in nodes:
        process.kill()
    psutil.wait_procs(nodes, timeout=20)
    shutil.rmtree(folder, ignore_errors=True)


def _nodes(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if belongs_to(process, str(folder))]


@pytest.fixture
def joined(cluster, monkeypatch) -> Cluster:
    """This process's environment, as a user's who wants to train on the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", ADDRESS)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token_file))
    return cluster


def test_training_on_two_nodes_with_secrets_that_stand_nowhere(
    training, world, retriever_for_all, joined, tmp_path, monkeypatch
):
    """Nodes do not inherit the environment; keys reach them all the same, and are in no file, output or list."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    url = with_password(retriever_for_all.url, "retriever")
    run = training(1, world / "stage1.jsonl", url, "--logger.wandb.key", WANDB_KEY)
    status, seen = run.finish_watched(lambda: command_lines_with(MARK))
    assert status == 0, run.console[-2000:]
    assert run.steps() == 2 and (run.run_dir / "model" / "config.json").is_file()
    assert not seen
    token = joined.token_file.read_text().strip()
    assert joined.token_file.stat().st_mode & 0o077 == 0
    assert not (run.run_dir / "keys.json").exists()
    assert not files_with([MARK, token], tmp_path, joined.folder)
    hosts = {path.name.split("-", 1)[1] for path in (run.run_dir / "trajectories").glob("*.jsonl")}
    assert hosts, "no engine has played an episode"


def refused(folder: Path, search: str, gpus: int = 2) -> tuple[str, float]:
    """What the driver says of a run on the cluster, and after how many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "run.json"
    RunConfig(str(folder), find_recipe("tiny.stage1"), RetrieverConfig(search)).write(config)
    command = [
        sys.executable,
        "-m",
        "r1_searcher.host.driver",
        os.getpid(),
        config,
        "cpu",
        gpus,
        "--logger.wandb.project",
        "p",
    ]
    began = time.monotonic()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stderr.splitlines() if line.startswith("r1_searcher.train: ")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr[-2000:]
    return lines[0], time.monotonic() - began


def test_what_is_wrong_with_a_cluster_is_one_line(joined, tmp_path, record_property):
    here = "http://10.0.0.1:8000"
    lines = {
        "GPUs": refused(tmp_path, here, gpus=3),
        "loopback": refused(tmp_path, "http://127.0.0.1:8000"),
        "folder": refused(joined.hidden / "run", here),
    }
    changed = tmp_path / "changed.py"
    changed.write_text((REPO / "foundation" / "loops.py").read_text() + "\n# changed\n")
    inside = ["nsenter", "--target", str(joined.second.pid), "--mount"]
    subprocess.run([*inside, "mount", "--bind", changed, REPO / "foundation" / "loops.py"], check=True)
    try:
        lines["code"] = refused(tmp_path, here)
    finally:
        subprocess.run([*inside, "umount", REPO / "foundation" / "loops.py"], check=True)
    record_property("lines", json.dumps(lines))
    assert "the flags ask for 3 GPUs and Ray has 2" in lines["GPUs"][0]
    assert "--search names 127.0.0.1" in lines["loopback"][0]
    assert f"does not see {joined.hidden / 'run' / 'run.json'}" in lines["folder"][0]
    assert "runs other code than this machine" in lines["code"][0]
    assert reachable_address() in lines["code"][0] or "node 127.0.0.1" in lines["code"][0]


def test_without_the_token_nobody_joins(joined, tmp_path, monkeypatch):
    (tmp_path / "other").write_text("f" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert "cannot join the Ray cluster" in refused(tmp_path / "run", "http://10.0.0.1:8000")[0]
