"""A killed compilation's lock is removed; that of a living one stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1_searcher.host.device import Device, worker_environment
from r1_searcher.host.extension_builds import build_root, prepare, remove_stale_locks

HOLD = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def build(root: Path, *names: str) -> Path:
    folder = root.joinpath(*names)
    folder.mkdir(parents=True)
    return folder / "lock"


@pytest.mark.e2e
def test_a_lock_is_stale_once_its_owner_is_killed(tmp_path, caplog):
    lock = build(tmp_path, "py311_cpu", "fused_adam")
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None and owner.stdout.readline() == "held\n"
        assert remove_stale_locks(tmp_path) == [] and lock.is_file()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    assert lock.is_file(), "the killed process has left it"
    assert remove_stale_locks(tmp_path) == [lock] and not lock.exists()
    assert str(lock) in caplog.text


def test_where_nothing_is_built_there_is_nothing_to_do(tmp_path):
    assert remove_stale_locks(tmp_path / "missing") == []
    other = tmp_path / "fused_adam" / "fused_adam.so"
    other.parent.mkdir()
    other.touch()
    assert remove_stale_locks(tmp_path) == [] and other.exists()


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({"TORCH_EXTENSIONS_DIR": "/build"}, Path("/build")),
        ({"XDG_CACHE_HOME": "/cache"}, Path("/cache/torch_extensions")),
        ({"HOME": "/home/me"}, Path("/home/me/.cache/torch_extensions")),
    ],
)
def test_the_root_is_pytorchs(monkeypatch, variables, root):
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert build_root() == root


def test_the_environments_tools_come_first(monkeypatch, tmp_path):
    tools = str(Path(sys.executable).parent)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = build(tmp_path, "py311_cpu", "fused_adam")
    lock.touch()
    for before in ("/usr/bin:/bin", f"/usr/bin:{tools}:/bin"):
        monkeypatch.setenv("PATH", before)
        prepare()
        assert os.environ["PATH"] == f"{tools}:/usr/bin:/bin"
    assert not lock.exists()


@pytest.mark.slow
def test_deepspeed_compiles_with_another_minor_version_of_cuda(monkeypatch):
    """Only where it is told to, which it is in every process of a run on GPUs."""
    import torch

    builder = pytest.importorskip("deepspeed.ops.op_builder.builder")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(builder, "installed_cuda_version", lambda name="": (13, 2))
    monkeypatch.delenv("DS_SKIP_CUDA_CHECK", raising=False)
    with pytest.raises(builder.CUDAMismatchException):
        builder.assert_no_cuda_mismatch("cpu_adam")
    for name, value in worker_environment(Device.CUDA).items():
        monkeypatch.setenv(name, value)
    assert builder.assert_no_cuda_mismatch("cpu_adam")


STEP = """
import torch
from deepspeed.ops.adam import FusedAdam

weight = torch.nn.Parameter(torch.ones(4))
optimizer = FusedAdam([weight], lr=0.1)
weight.grad = torch.ones(4)
optimizer.step()
print(weight.tolist())
"""


@pytest.mark.slow
def test_the_first_step_compiles_nothing(tmp_path):
    """The set-up has built the optimizer: no ninja is asked for, and nothing is written where extensions are built."""
    programs = tmp_path / "bin"
    programs.mkdir()
    built = tmp_path / "extensions"
    environment = {**os.environ, "PATH": str(programs), "TORCH_EXTENSIONS_DIR": str(built), "DS_ACCELERATOR": "cpu"}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx([0.9] * 4)
    assert not list(built.rglob("*.so")) and not list(built.rglob("build.ninja"))


def test_a_lock_that_is_new_and_held_here_stays(tmp_path):
    lock = build(tmp_path, "mine")
    with lock.open("w"):
        time.sleep(0.01)
        assert remove_stale_locks(tmp_path) == []
    assert remove_stale_locks(tmp_path) == [lock]
