"""The session that a run notes in its folder: what a killed attempt left is ended, and nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from foundation.errors import InputError
from foundation.process import Machine, started_at
from r1_searcher.launch.processes import ProcessSession, end_killed_attempt

LEADER = """
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]).pid for _ in range(2)]
print(*children, flush=True)
time.sleep(600)
"""


@pytest.fixture
def job():
    """Starts a leader of a session with two children; gives (leader, pids of the children)."""
    pids = []

    def start():
        leader = subprocess.Popen(
            [sys.executable, "-S", "-c", LEADER], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        children = [int(pid) for pid in leader.stdout.readline().split()]
        leader.stdout.close()
        pids.extend([leader.pid, *children])
        return leader, children

    yield start
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(leader) -> None:
    leader.kill()
    leader.wait()


def all_gone(pids) -> bool:
    give_up_at = time.monotonic() + 10
    while any(started_at(pid) is not None for pid in pids):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def all_live(pids) -> bool:
    time.sleep(0.05)
    return all(started_at(pid) is not None for pid in pids)


def test_what_a_killed_attempt_left_is_ended(job, tmp_path, caplog):
    leader, children = job()
    file = tmp_path / "session.json"
    assert ProcessSession.led_by(leader.pid).noted(file) == ProcessSession.read(file)
    end(leader)
    end_killed_attempt(file)
    assert all_gone(children) and "ended 2 processes" in caplog.text and not file.exists()
    end_killed_attempt(file)


def test_a_session_is_noted_again_when_its_processes_change(job, tmp_path):
    leader, children = job()
    file = tmp_path / "session.json"
    session = ProcessSession.led_by(leader.pid).noted(file)
    before = file.stat().st_mtime_ns
    assert session.noted(file) == session and file.stat().st_mtime_ns == before
    os.kill(children[0], signal.SIGKILL)
    while started_at(children[0]) is not None:
        time.sleep(0.01)
    assert children[0] not in session.noted(file).seen and ProcessSession.read(file).seen.keys() == {
        leader.pid,
        children[1],
    }


def spoilt(session: ProcessSession, case: str) -> ProcessSession:
    here = session.machine
    return {
        "another host": replace(session, machine=replace(here, host="elsewhere")),
        "another boot": replace(session, machine=replace(here, boot="11111111-2222-3333-4444-555555555555")),
        "another container": replace(session, machine=replace(here, numbers="pid:[1]")),
        "an unknown boot": replace(session, machine=replace(here, boot="")),
        "an earlier version": replace(session, machine=None),
        "numbers used again": replace(session, seen={pid: start - 1 for pid, start in session.seen.items()}),
        "nobody seen": replace(session, seen={}),
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        *("another host", "another boot", "another container", "an unknown boot", "an earlier version"),
        *("numbers used again", "nobody seen"),
    ],
)
def test_a_strangers_processes_are_left_alone(case, job, tmp_path, caplog):
    """Leader gone, children at work: with only the number to go by they were ended."""
    leader, children = job()
    file = tmp_path / "session.json"
    file.write_text(json.dumps(asdict(spoilt(ProcessSession.led_by(leader.pid).looked_at(), case))))
    end(leader)
    end_killed_attempt(file)
    assert all_live(children) and "ended" not in caplog.text.replace("be ended from here", "")
    assert ("killed on elsewhere" in caplog.text) is (case == "another host")


def test_the_file_of_an_earlier_version_ends_nobody(job, tmp_path):
    leader, children = job()
    file = tmp_path / "session.json"
    file.write_text(json.dumps({"sid": leader.pid, "started": 1.0}))
    end(leader)
    end_killed_attempt(file)
    assert all_live(children)


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"{", b"[]", b"{}", b'{"sid": "x"}', b'{"sid": 1, "seen": [3]}'])
def test_a_damaged_file_is_one_line_that_says_what_to_remove(content, tmp_path):
    (tmp_path / "session.json").write_bytes(content)
    with pytest.raises(InputError, match=r"session.json is damaged .*remove the file"):
        end_killed_attempt(tmp_path / "session.json")


def test_the_machine_of_this_process_is_here():
    assert Machine.here().is_here and not replace(Machine.here(), boot="").is_here
    assert started_at(os.getpid()) == started_at(os.getpid()) is not None and started_at(2**22 + 1) is None
