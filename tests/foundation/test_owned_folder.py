"""Whose folder is this, what differs, and who works in it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PosixPath
from typing import ClassVar

import pytest

from foundation.errors import InputError, RunAborted
from foundation.owned_folder import (
    LOCK_NAME,
    STARTED_NAME,
    BuildFolder,
    FolderBusy,
    OwnedFolder,
    beside,
    differences,
    held,
    shown,
    whole_folder,
)
from foundation.process import started_at

SETTINGS = {"model": "a", "limits": {"top_k": 5, "turns": 3}, "flags": {"--x.y": "1"}}


@pytest.fixture
def owned(tmp_path):
    return OwnedFolder(tmp_path / "out", tmp_path / "out" / "settings.json", "evaluation", "--to")


def test_a_free_place_may_be_claimed_and_is_then_ours(owned):
    owned.check_owner(SETTINGS)
    owned.claim(SETTINGS)
    owned.check_owner(SETTINGS)
    assert json.loads(owned.settings_file.read_text()) == SETTINGS


def test_other_settings_are_refused_and_named(owned):
    owned.claim(SETTINGS)
    with pytest.raises(InputError, match=r"another evaluation \(limits top_k: there 5, here 6\); choose another --to"):
        owned.check_owner({**SETTINGS, "limits": {"top_k": 6, "turns": 3}})
    with pytest.raises(InputError, match="flags --x.y: there '1', here None"):
        owned.check_owner({**SETTINGS, "flags": {}})


def test_foreign_things_are_refused_but_not_what_a_kill_left(owned):
    owned.path.mkdir()
    (owned.path / ".settings.json.1.draft").touch()
    owned.check_owner(SETTINGS)
    (owned.path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds no evaluation; choose another --to"):
        owned.check_owner(SETTINGS)
    file = OwnedFolder(owned.path / "thesis.tex", owned.path / "thesis.tex" / "s.json", "run")
    with pytest.raises(InputError, match="is a file; choose another --out"):
        file.check_kind()


class Changing(PosixPath):
    """A folder in which another process works just before, or just after, it is listed."""

    before: ClassVar[Callable[[], object]] = int
    after: ClassVar[Callable[[], object]] = int

    def iterdir(self):
        self.before()
        listed = list(super().iterdir())
        self.after()
        return iter(listed)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_folder_that_is_claimed_while_it_is_looked_at_is_no_strangers(owned, moment, monkeypatch):
    owned.path.mkdir()
    draft = owned.path / f".settings.json.{os.getpid()}-12345678.draft"
    draft.write_text(json.dumps(SETTINGS))
    monkeypatch.setattr(Changing, moment, staticmethod(lambda: draft.rename(owned.settings_file)))
    OwnedFolder(Changing(owned.path), owned.settings_file, "evaluation").check_kind()
    assert owned.settings_file.is_file()


def test_a_folder_that_goes_while_it_is_looked_at_is_free(owned, monkeypatch):
    owned.path.mkdir()
    monkeypatch.setattr(Changing, "before", staticmethod(owned.path.rmdir))
    OwnedFolder(Changing(owned.path), owned.settings_file, "evaluation").check_kind()
    assert not owned.path.exists()


def test_many_differences_are_counted():
    named = differences(dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2))
    assert len(named) == 5 and shown(named).endswith("c: there 1, here 2; and 2 more")


FACTS = {"source": "wiki", "words": 100}


def build(folder, facts=FACTS, fails=False):
    """Build what is missing of a folder; gives whether it was finished already."""
    work, finished = folder / ".work", folder / "store.json"
    with BuildFolder(folder, finished, "passage store").building(facts, work) as is_finished:
        if not is_finished:
            work.mkdir(exist_ok=True)
            if fails:
                raise RuntimeError("killed")
            finished.write_text(json.dumps({**facts, "count": 7}))
    return is_finished


def test_a_build_is_continued_for_the_same_facts_only(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        build(tmp_path, fails=True)
    assert json.loads((tmp_path / STARTED_NAME).read_text()) == FACTS and (tmp_path / ".work").is_dir()
    with pytest.raises(InputError, match=r"another passage store \(words: there 100, here 50\); choose another --out"):
        build(tmp_path, {**FACTS, "words": 50})
    assert not build(tmp_path) and not (tmp_path / STARTED_NAME).exists() and not (tmp_path / ".work").exists()
    (tmp_path / STARTED_NAME).touch()  # killed between the last file and the cleaning up
    assert build(tmp_path) and not (tmp_path / STARTED_NAME).exists()
    with pytest.raises(InputError, match="words: there 100, here 50"):
        build(tmp_path, {**FACTS, "words": 50})


def test_a_record_that_is_not_json_is_named(tmp_path):
    (tmp_path / STARTED_NAME).write_text("{")
    with pytest.raises(InputError, match=f"{STARTED_NAME} is not JSON"):
        build(tmp_path)


# One process at a time


HELD = r"is held by \d+ on \S+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \(.+\): wait for it"


def test_the_second_says_who_holds_it_and_touches_nothing(tmp_path):
    (tmp_path / "work").write_text("of the first")
    with held(tmp_path):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        with pytest.raises(FolderBusy, match=HELD) as refused, held(tmp_path):
            pass
        assert f"{tmp_path} is held by {os.getpid()} on {socket.gethostname()}" in str(refused.value)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    with held(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_folder_that_nothing_was_put_into_is_gone_again(tmp_path):
    with pytest.raises(InputError, match="bad"), held(tmp_path / "a" / "b"):
        raise InputError("bad input")
    assert not (tmp_path / "a").exists()
    with held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "work").touch()
    assert (tmp_path / "a" / "b" / "work").is_file()


def test_drafts_of_processes_that_are_gone_are_cleared_away(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    live, gone = tmp_path / f".f.{os.getpid()}-12345678.draft", tmp_path / f".f.{ended.pid}-12345678.draft"
    for path in (live, gone):
        path.touch()
    with held(tmp_path):
        assert live.exists() and not gone.exists()


def in_a_fork(work) -> int:
    """Number of a child that does the work and then sleeps until it is killed; it is working when this returns."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(lambda: (os.write(told, b"x"), time.sleep(600)))
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_lock_goes_with_the_process_however_that_ends(tmp_path):
    def work(ready):
        with held(tmp_path):
            ready()

    pid = in_a_fork(work)
    with pytest.raises(FolderBusy, match=f"is held by {pid} on"), held(tmp_path):
        pass
    kill(pid)
    assert (tmp_path / LOCK_NAME).read_text(), "a killed process leaves its name"
    with held(tmp_path), pytest.raises(FolderBusy, match=f"is held by {os.getpid()} on"), held(tmp_path):
        pass


def test_children_that_outlive_the_holder_do_not_hold(tmp_path):
    """A forked one (a loader of data) and a started one (Ray, vLLM), which may even be handed all descriptors."""

    def work(ready):
        with held(tmp_path):
            command = [sys.executable, "-c", "import time; time.sleep(600)"]
            children = [subprocess.Popen(command, close_fds=False).pid, os.fork()]
            if children[1] == 0:
                time.sleep(600)
            (tmp_path / "children").write_text(json.dumps(children))
            ready()

    kill(in_a_fork(work))
    children = json.loads((tmp_path / "children").read_text())
    try:
        assert all(started_at(child) is not None for child in children)
        with held(tmp_path):
            pass
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_one_waits_for_what_another_makes(tmp_path, caplog):
    made = []

    def second():
        with held(tmp_path, wait=True):
            made.append("second")

    with held(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting for it" not in caplog.text:
            time.sleep(0.001)
        made.append("first")
    thread.join()
    assert made == ["first", "second"]


@pytest.mark.parametrize("kept", [True, False], ids=["a folder with work", "a folder that comes and goes"])
def test_of_many_at_once_one_holds(kept, tmp_path):
    """Whoever lets go removes the lock's file, and the folder where nothing is in it: nobody holds what is gone."""
    folder, inside, refused = tmp_path / "folder", [], []
    if kept:
        folder.mkdir()
        (folder / "work").touch()

    def work():
        for _ in range(100):
            try:
                with held(folder):
                    inside.append(1)
                    assert len(inside) == 1
                    inside.pop()
            except FolderBusy as busy:
                refused.append(str(busy))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert all("is held by" in message for message in refused)
    assert {path.name for path in tmp_path.rglob("*")} <= {"folder", "work"}


def test_a_neighbour_is_the_lock_of_what_appears_whole(tmp_path):
    out = tmp_path / "model"
    with beside(out), whole_folder(out) as draft:
        (draft / "weights").touch()
        with pytest.raises(FolderBusy, match=f"{out} is held by"), beside(out):
            pass
        assert not out.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "weights"]
    with pytest.raises(RuntimeError), beside(tmp_path / "other"), whole_folder(tmp_path / "other") as draft:
        (draft / "weights").touch()
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_strangers_lock_is_not_followed(tmp_path):
    """A folder from elsewhere could name any file of the user's as its lock."""
    victim = tmp_path / "thesis.tex"
    victim.write_text("ten years of work")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / LOCK_NAME).symlink_to(victim)
    with pytest.raises(InputError, match="cannot write .*index: "), held(tmp_path / "index"):
        pass
    assert victim.read_text() == "ten years of work"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\0" * 100, "\x1b]0;owned"])
def test_a_holder_without_a_name_holds(text, tmp_path):
    with held(tmp_path):
        (tmp_path / LOCK_NAME).write_text(text)
        with pytest.raises(FolderBusy, match="another process, which has not said its name"), held(tmp_path):
            pass


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("foundation.owned_folder.os.open", read_only)
    with pytest.raises(InputError, match="cannot write .*: Read-only file system; choose another"), held(tmp_path):
        pass


def no_locks(monkeypatch, number=errno.ENOLCK) -> None:
    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr("foundation.owned_folder.fcntl.flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, 524])
def test_a_file_system_without_locks_is_told_and_used(number, tmp_path, monkeypatch, caplog):
    """llnl/scr #510, ComparativeGenomicsToolkit/cactus #1299, chanzuckerberg/miniwdl #483, gluster/glusterfs #911."""
    no_locks(monkeypatch, number)
    with held(tmp_path / "out"):
        (tmp_path / "out" / "file").touch()
    assert "without locks" in caplog.text and "one command at a time" in caplog.text


def test_without_locks_a_live_process_that_is_named_is_believed(tmp_path, monkeypatch):
    def work(ready):
        with held(tmp_path):
            ready()

    no_locks(monkeypatch)
    pid = in_a_fork(work)
    with pytest.raises(FolderBusy, match=f"is held by {pid} on"), held(tmp_path):
        pass
    kill(pid)
    with held(tmp_path):
        pass


def test_another_failure_of_a_lock_is_a_failure(tmp_path, monkeypatch):
    no_locks(monkeypatch, errno.EIO)
    with pytest.raises(RunAborted, match="cannot write"), held(tmp_path):
        pass
