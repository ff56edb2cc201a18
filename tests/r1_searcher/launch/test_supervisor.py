"""The supervisor over a stand-in driver: signals, exit codes, an aborted run's one line, the log's tail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.runs.run_folders import run_folder
from support.runs.supervise import over_stand_in
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from foundation.cli import ABORTED, BAD_INPUT, GUARDED
from foundation.errors import InputError, RunAborted
from r1_searcher.host.device import Device
from r1_searcher.host.driver import expected_error, ray_options

REPO = Path(__file__).resolve().parents[3]

BUSY = """
import pathlib, signal, subprocess, sys, time
{ignore}
child = subprocess.Popen([sys.executable, "-c", "import signal, time; {child_ignores}time.sleep(600)"])
pathlib.Path("pids.partial").write_text(f"{{child.pid}} {{__import__('os').getpid()}}")
pathlib.Path("pids.partial").rename("pids")
time.sleep(600)
"""
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 30.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def over(tmp_path, monkeypatch, capfd):
    """Runs the supervisor, in this process, over a driver with this source; gives (status, what it prints)."""

    def start(source: str, guard: str = "off") -> tuple[int, str]:
        (tmp_path / "stand_in.py").write_text(source)
        monkeypatch.chdir(tmp_path)
        supervisor = over_stand_in(guard, tmp_path, tmp_path / "stand_in.py")
        return supervisor.run(), "".join(capfd.readouterr())

    monkeypatch.setattr("r1_searcher.launch.supervisor.POLL_SECONDS", 0.05)
    return start


def write_metrics(folder: Path, steps: dict[int, dict[str, float]]) -> None:
    """What OpenRLHF's trainer writes for TensorBoard."""
    writer = EventFileWriter(str(folder))
    for step, metrics in steps.items():
        values = [Summary.Value(tag=f"train/{name}", simple_value=value) for name, value in metrics.items()]
        writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
    writer.close()


@pytest.fixture
def busy(tmp_path, environment):
    """A supervisor over a driver that has started a child and works on; gives (supervisor, pids)."""
    started = []

    def start(ignore: bool = False, child_ignores: bool = False):
        source = BUSY.format(ignore=IGNORE if ignore else "", child_ignores=f"{IGNORE}; " if child_ignores else "")
        (tmp_path / "stand_in.py").write_text(source)
        command = [sys.executable, "-m", "support.runs.supervise", "off", str(tmp_path), str(tmp_path / "stand_in.py")]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": f"{REPO}:{REPO / 'tests'}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Under nohup, as in some continuous integration, a closed terminal is ignored, which is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        started.append(process)
        wait_for((tmp_path / "pids").exists)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        started.extend(pids)
        return process, pids

    yield start
    for left in started:
        pid = left if isinstance(left, int) else left.pid
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("child_ignores", [False, True])
def test_a_signal_ends_the_driver_and_what_it_started(busy, number, child_ignores):
    process, pids = busy(child_ignores=child_ignores)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; run the same command again to resume" in errors
    assert "Traceback" not in errors
    wait_for(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_does_not_hear_a_signal_is_killed(busy, number):
    process, pids = busy(ignore=True, child_ignores=True)
    process.send_signal(number)
    process.communicate(timeout=15)
    assert process.returncode == 128 + number
    wait_for(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("expected", [0, 1, 7])
def test_the_drivers_status_is_the_supervisors(over, expected):
    status, told = over(f"raise SystemExit({expected})")
    assert status == expected
    assert ("OpenRLHF ended" in told) == (expected != 0)


def test_the_output_goes_to_the_log_of_the_run(over, tmp_path):
    (tmp_path / "train.log").write_text("of an earlier attempt\n")
    _, told = over("import sys; print('to stdout'); print('to stderr', file=sys.stderr)")
    log = (tmp_path / "train.log").read_text()
    assert log.startswith("of an earlier attempt\n") and "to stdout" in log and "to stderr" in log
    assert "to std" not in told


def test_a_failure_prints_the_end_of_the_log(over, tmp_path):
    status, told = over("for number in range(100): print('line', number)\nraise RuntimeError('engine lost')")
    assert status == 1 and f"status 1; the reason is in {tmp_path / 'train.log'}" in told
    assert "RuntimeError: engine lost" in told and "line 99" in told and "line 5\n" not in told


def test_a_driver_that_is_killed_is_told_apart(over):
    """The out-of-memory killer is the usual reason."""
    status, told = over("import os; os.kill(os.getpid(), 9)")
    assert status == 128 + 9 and "SIGKILL" in told


@pytest.mark.parametrize("expected", [ABORTED, BAD_INPUT])
def test_an_expected_end_prints_its_one_line(over, expected):
    status, told = over(
        "import sys\nprint('r1_searcher.train: of an earlier attempt')\nprint('noise')\n"
        f"print('r1_searcher.train: the retriever is down', file=sys.stderr, flush=True)\nprint('more noise')\n"
        f"sys.exit({expected})"
    )
    assert status == expected
    assert [line for line in told.splitlines() if "r1_searcher" in line] == ["r1_searcher.train: the retriever is down"]
    assert "noise" not in told and "earlier" not in told


def test_steps_reach_the_progress_bar_and_the_metrics(over, tmp_path):
    write_metrics(tmp_path / "written", {step: {"reward": step / 4} for step in (1, 2, 3)})
    status, told = over("import os; os.rename('written', 'tensorboard')")
    assert status == 0 and "3/10" in told and "reward=0.75" in told
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_the_progress_bar_of_a_run_that_went_back_shows_no_discarded_step(over, tmp_path):
    """Collapsed at 9, and begun again from the checkpoint of step 2."""
    run_folder(tmp_path, 2)
    write_metrics(tmp_path / "tensorboard" / "first", {step: {"reward": step / 100} for step in range(1, 10)})
    write_metrics(tmp_path / "written", {3: {"reward": 0.75}})
    status, told = over("import os; os.rename('written', 'tensorboard/second')")
    assert status == 0 and "3/10" in told and "reward=0.75" in told
    assert "9/10" not in told and "reward=0.09" not in told


@pytest.mark.parametrize("action, sleep, expected", [("stop", 60, GUARDED), ("warn", 0.5, 0)])
def test_a_run_that_collapses_is_ended_where_the_guard_may(over, tmp_path, action, sleep, expected):
    run_folder(tmp_path, 2)
    (tmp_path / "checkpoints" / "_actor" / "latest").unlink()  # this attempt began at 0
    losses = {1: 0.1, 2: 0.1, 3: float("nan")}
    steps = {step: {"policy_loss": loss, "timing/step_total": 1.0} for step, loss in losses.items()}
    write_metrics(tmp_path / "written" / "run", steps)
    status, told = over(f"import os, time; os.rename('written', 'tensorboard'); time.sleep({sleep})", guard=action)
    assert status == expected, told
    assert ("r1_searcher.train: the collapse guard ended the run: step 3" in told) is (status == GUARDED)
    assert json.loads((tmp_path / "guard.jsonl").read_text())["sign"] == "broken_loss"


# The driver itself


def test_an_abort_is_found_however_it_is_wrapped():
    abort = RunAborted("the retriever is down")
    middle = ValueError("middle")
    middle.__cause__ = abort
    outer = RuntimeError("outer")
    outer.__context__ = middle
    assert str(expected_error(outer)) == "the retriever is down"
    assert expected_error(RuntimeError("a bug")) is None and expected_error(None) is None
    outer.__context__ = outer
    assert expected_error(outer) is None


def test_an_abort_that_crossed_ray_is_its_message_alone():
    """Ray makes an error of both classes, whose text is the remote traceback."""
    from ray.exceptions import RayTaskError

    traceback = 'Traceback (most recent call last):\n  File "agent.py", line 1\nRunAborted: the retriever is down'

    def crossed(cause):
        error = RayTaskError("execute", traceback, cause, proctitle="ray::engine", pid=1, ip="127.0.0.1")
        return error.as_instanceof_cause()

    once = crossed(RunAborted("the retriever is down"))
    assert isinstance(once, RunAborted) and str(expected_error(once)) == "the retriever is down"
    assert str(expected_error(crossed(once))) == "the retriever is down"
    assert expected_error(crossed(ValueError("a bug"))) is None


ENDINGS = {
    "done": ("pass", 0, ""),
    "left": ("raise SystemExit(5)", 5, ""),
    "aborted": (
        "from foundation.errors import RunAborted; raise RunAborted('down')",
        ABORTED,
        "r1_searcher.train: down",
    ),
    "bug": ("raise ValueError('a bug')", 1, "ValueError: a bug"),
}
"""Name -> (what the host does, the driver's status, the last line that it writes)."""
DRIVERS = """
import os, sys, types
sys.modules["r1_searcher.host.agent"] = agent = types.ModuleType("agent")  # the real one imports vLLM and OpenRLHF
agent.AgentExecutor = object
from r1_searcher.host import driver
driver.start_ray = driver.progress_actor.start = lambda *_: None
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{name}.err", os.O_CREAT | os.O_WRONLY), 2)
        driver.TRAINER_MODULE = f"host_{name}"
        sys.exit(driver.main([str(os.getppid()), "run.json", "cuda", "1", "--logger.wandb.project", "a b"]))
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def drivers(tmp_path_factory, run, environment):
    """Every driver of `ENDINGS`, played: name -> (status, lines on stderr)."""
    from r1_searcher.recipe.recipe import find_recipe
    from r1_searcher.run.run_config import RetrieverConfig, RunConfig

    folder = tmp_path_factory.mktemp("drivers")
    RunConfig(str(folder), find_recipe("tiny.stage2"), RetrieverConfig("http://h")).write(folder / "run.json")
    for name, (raises, _, _) in ENDINGS.items():
        (folder / f"host_{name}.py").write_text(
            "import os, sys\nassert sys.argv[1:] == ['--logger.wandb.project', 'a b'], sys.argv\n"
            "assert os.environ['R1_SEARCHER_REWARD'] == 'r1_searcher.stage2'\n"
            f"assert os.environ['R1_SEARCHER_RUN'] == 'run.json'\n{raises}\n"
        )
    done = run(
        [sys.executable, "-c", DRIVERS, *ENDINGS], cwd=folder, env={**environment, "PYTHONPATH": f"{folder}:{REPO}"}
    )
    assert done.status == 0, done.err
    statuses = dict(line.split() for line in done.out.splitlines())
    return {name: (int(statuses[name]), (folder / f"{name}.err").read_text().strip().splitlines()) for name in ENDINGS}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_drivers_exit_statuses(drivers, name):
    _, status, last_line = ENDINGS[name]
    found, lines = drivers[name]
    assert found == status, lines
    assert lines[-1:] == ([last_line] if last_line else [])


@pytest.mark.parametrize(
    ("device", "address", "expected"),
    [
        (Device.CPU, "", {"address": "local", "num_gpus": 3}),
        (Device.CUDA, "", {"address": "local"}),
        (Device.CUDA, "10.0.0.1:6379", {}),
    ],
)
def test_a_run_joins_a_ray_cluster_only_when_told_to(monkeypatch, device, address, expected):
    """Without an address `ray.init` joins any cluster that `ray start` left on the machine."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    options = ray_options({"A": "1"}, device, 3)
    assert options["runtime_env"]["env_vars"]["A"] == "1"
    assert options["runtime_env"]["worker_process_setup_hook"] == "r1_searcher.host.worker.prepare"
    shown = {key: options[key] for key in ("address", "num_gpus") if key in options}
    assert shown == expected


def test_the_run_of_a_process_is_named_by_its_environment(monkeypatch):
    from r1_searcher.run.run_config import RunConfig

    monkeypatch.delenv("R1_SEARCHER_RUN", raising=False)
    with pytest.raises(InputError, match="R1_SEARCHER_RUN"):
        RunConfig.of_this_process()
