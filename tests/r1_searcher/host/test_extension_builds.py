"""A killed compilation's lock is removed; that of a living one stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_a_lock_that_is_new_and_held_here_stays(tmp_path):
    lock = build(tmp_path, "mine")
    with lock.open("w"):
        time.sleep(0.01)
        assert remove_stale_locks(tmp_path) == []
    assert remove_stale_locks(tmp_path) == [lock]
