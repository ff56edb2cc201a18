"""Services: started before the work, waited for, and never left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from foundation.errors import RunAborted
from r1_searcher.launch import playground
from r1_searcher.launch.services import Services, run, run_module

REPO = Path(__file__).resolve().parents[3]
SERVER = """
import os, pathlib, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--fail" in options:
    sys.exit("no corpus at " + options["--fail"])
assert int(options["--exit-with-parent"]) == os.getppid()
pathlib.Path(options["--note"]).write_text(str(os.getpid()))
ready = pathlib.Path(options["--ready-file"])
ready.with_suffix(".draft").write_text("http://127.0.0.1:1")
ready.with_suffix(".draft").rename(ready)
time.sleep(600)
"""
OWNER = """
import signal, sys, time
from r1_searcher.launch.services import Services, run
# A shell's background job, which a test run may be, ignores SIGINT, and so do its children unless told otherwise.
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[4:] else signal.default_int_handler)
with Services() as services:
    services.start("server", "waiting_server", "--note", sys.argv[1])
    if sys.argv[2] == "runs":
        run([sys.executable, "-c", "import sys, time; open(sys.argv[1], 'w'); time.sleep(600)", sys.argv[3]])
    open(sys.argv[3], "w")
    time.sleep(600)
"""


@pytest.fixture
def note(tmp_path, monkeypatch) -> Path:
    """File in which a server of this test notes its process."""
    (tmp_path / "waiting_server.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPO}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / "note"


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds: float = 40.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_a_service_ends_with_its_context(note, tmp_path, error):
    try:
        with Services() as services:
            assert services.start("server", "waiting_server", "--note", str(note)) == "http://127.0.0.1:1"
            assert alive(int(note.read_text()))
            if error:
                raise error
    except BaseException as caught:
        assert type(caught) is error
    assert not alive(int(note.read_text()))
    assert not list(tmp_path.glob("r1_searcher_services_*"))


def test_a_service_that_dies_ends_the_command_with_its_message(note, capsys):
    with (
        pytest.raises(RunAborted, match="the server ended with status 1 before it answered"),
        Services() as services,
    ):
        services.start("server", "waiting_server", "--fail", "/nowhere")
    assert "no corpus at /nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "doing", "job"),
    [
        (signal.SIGTERM, "waits", ()),
        (signal.SIGTERM, "runs", ()),
        (signal.SIGTERM, "runs", ("background",)),
        (signal.SIGINT, "runs", ()),
    ],
)
def test_a_signal_to_the_owner_ends_all(note, tmp_path, number, doing, job):
    """`kill PID`, `docker stop` and job systems signal one process, not its children."""
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", OWNER, str(note), doing, str(begun), *job]
    owner = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(begun.exists)
        children = psutil.Process(owner.pid).children(recursive=True)
        assert len(children) == (2 if doing == "runs" else 1)
        owner.send_signal(number)
        assert owner.wait(timeout=30) == (143 if number == signal.SIGTERM else -signal.SIGINT)
        assert not any(alive(child.pid) for child in children)
    finally:
        if owner.poll() is None:
            owner.kill()
            owner.wait()


KILLED = """
import os, subprocess, sys, time
from r1_searcher.launch.services import run
# Between the two stands a program that is not ours, as a shell or a launcher of ranks.
run([sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *sys.argv[1:]])
"""
COMMAND = """
import os, pathlib, sys, time
from foundation.cli import run_command
from foundation.process import STARTER_VARIABLE

def work():
    assert STARTER_VARIABLE not in os.environ, "what it starts is its own"
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)

sys.exit(run_command("name", work))
"""


def test_a_command_ends_where_its_starter_is_killed(note):
    """As the out-of-memory killer does it, which nothing in the killed process hears of."""
    command = [sys.executable, "-c", KILLED, sys.executable, "-c", COMMAND, str(note)]
    starter = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: note.exists() and note.read_text())
        started = psutil.Process(starter.pid).children(recursive=True)
        assert int(note.read_text()) in [process.pid for process in started] and len(started) == 2
        starter.kill()
        starter.wait()
        wait_for(lambda: not any(alive(process.pid) for process in started))
    finally:
        if starter.poll() is None:
            starter.kill()
            starter.wait()


def test_a_command_keeps_its_status_and_a_module_must_succeed():
    assert run([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    with pytest.raises(RunAborted, match="no_such_module ended with status 1"):
        run_module("no_such_module")


@pytest.mark.e2e
def test_the_playground_gives_a_command_its_world_and_both_retrievers(tmp_path, monkeypatch):
    """With the real world and the real server."""
    monkeypatch.setattr(playground, "RUNS", tmp_path)
    program = """
import asyncio, json, os, sys
from retriever.passage import SearchRequest
from retriever.sources import open_retriever
async def ids(variable):
    source = open_retriever(os.environ[variable])
    hits = await source.search(SearchRequest("What is the home of the person Zorend Negim ?", 100))
    await source.close()
    return sorted(hit.passage.id for hit in hits)
found = {name: os.environ[name] for name in ("WORLD", "MODEL", "SEED", "PYTHON")}
found |= {variable: asyncio.run(ids(variable)) for variable in ("RETRIEVER_URL", "TRAINING_RETRIEVER_URL")}
json.dump(found, open(sys.argv[1], "w"))
sys.exit(7)
"""
    note = tmp_path / "found.json"
    assert playground.main(["--seed", "5", "--", sys.executable, "-c", program, str(note)]) == 7
    found = json.loads(note.read_text())
    assert found["WORLD"] == str(tmp_path / "tiny_world_seed5") and Path(found["WORLD"], "heldout.jsonl").is_file()
    assert (found["SEED"], found["PYTHON"]) == ("5", sys.executable)
    assert Path(found["MODEL"], "config.json").is_file()
    whole, training = (found[variable] for variable in ("RETRIEVER_URL", "TRAINING_RETRIEVER_URL"))
    assert len(training) > 10 and not any(passage_id.startswith("evaluation-") for passage_id in training)
    assert any(passage_id.startswith("evaluation-") for passage_id in whole)


def test_a_preset_without_a_world_is_refused(capsys):
    assert playground.main(["--preset", "qwen7b", "--", "true"]) == 2
    assert "qwen7b has no tiny world" in capsys.readouterr().err
