"""The shell scripts: their syntax, their arguments, and that nothing they start outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

REPO = Path(__file__).resolve().parents[3]
SCRIPTS = sorted({*REPO.glob("train_scripts/**/*.sh"), *REPO.glob("tests/**/*.sh")})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(REPO)))
def test_syntax(script, run):
    done = run(["bash", "-n", script])
    assert (done.status, done.err) == (0, "")


def value_of(argv: list[str], name: str) -> str:
    """The last value, which is the one that counts."""
    return argv[len(argv) - argv[::-1].index(name)]


def test_a_stage_fills_in_what_the_user_left_out(arguments_of_script, scripts):
    argv = arguments_of_script("stage1.sh", "--preset", "tiny", "--dry-run", "--seed=3")
    root = scripts.parent
    assert argv[:4] == ["-m", "r1_searcher.train", "--recipe", "tiny.stage1"]
    assert value_of(argv, "--run-dir") == str(root / "runs" / "tiny" / "stage1")
    assert value_of(argv, "--data") == str(root / "runs" / "tiny_world_seed3" / "stage1.jsonl")
    assert value_of(argv, "--train.seed") == "45"
    assert "--preset" not in argv and "--seed=3" not in argv


@pytest.mark.parametrize(
    "given", [["--run-dir", "/a b/run", "--data=/x y.jsonl"], ["--data=/x y.jsonl", "--run-dir=/a"]]
)
def test_a_users_options_come_last_and_whole(arguments_of_script, given):
    argv = arguments_of_script(
        "stage2.sh", "--preset", "tiny", "--dry-run", *given, "--data.input_template", "a $b 'c' {}"
    )
    assert argv[-len(given) - 3 :] == ["--dry-run", *given, "--data.input_template", "a $b 'c' {}"]
    assert "--data" not in argv


def test_stage_2_starts_from_stage_1s_model(scripts, run, environment):
    done = run(["bash", scripts / "stage2.sh", "--preset", "tiny"], env=environment)
    assert done.status == 2 and "run stage1.sh first" in done.err and "runs/tiny/stage1/model" in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--preset", "huge"], 2, "unknown preset 'huge'; known: tiny qwen7b llama8b"),
        (["--preset"], 1, "needs a name"),
    ],
)
def test_a_bad_preset(scripts, run, environment, arguments, status, said):
    done = run(["bash", scripts / "stage1.sh", "--dry-run", *arguments], env=environment)
    assert done.status == status and said in done.err


def test_a_bad_seed_is_refused(scripts, run, environment):
    done = run(["bash", scripts / "stage1.sh", "--preset", "tiny", "--seed", "x", "--dry-run"], env=environment)
    assert done.status == 2 and "--seed" in done.err and "unbound" not in done.err


# Services


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 40.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def user(tmp_path, scripts, environment, world):
    """Starts a script that uses services.sh with the real retriever and then does `last`."""
    started: list[subprocess.Popen] = []
    program = """
set -euo pipefail
source "$SCRIPTS/preset.sh" --preset tiny
source "$SCRIPTS/services.sh"
start_retriever "$CORPUS"
echo "$RETRIEVER_URL ${SERVICE_PIDS[*]} $SERVICE_DIR" >"$NOTE.partial"; mv "$NOTE.partial" "$NOTE"
"""

    def start(last: str, corpus: Path = world / "corpus.jsonl"):
        note = tmp_path / "note"
        env = {**environment, "SCRIPTS": str(scripts), "CORPUS": str(corpus), "NOTE": str(note)}
        process = subprocess.Popen(
            ["bash", "-c", program + last], env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        wait_for(lambda: note.exists() or process.poll() is not None)
        if not note.exists():
            return process, None, None
        if last.startswith("sleep"):
            # A signal just before bash forks is acted upon after that command only.
            wait_for(lambda: "sleep" in [child.name() for child in psutil.Process(process.pid).children()])
        _, pid, folder = note.read_text().split()
        return process, int(pid), Path(folder)

    yield start
    for process in started:
        process.stderr.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(("last", "status"), [("true", 0), ("exit 7", 7), ("false", 1)])
def test_services_stop_when_the_script_ends(user, last, status):
    process, pid, folder = user(last)
    assert process.wait(timeout=30) == status
    wait_for(lambda: not alive(pid))
    assert not folder.exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_services_stop_on_a_signal_to_all_as_from_a_terminal(user, number, status):
    process, pid, folder = user("sleep 600")
    os.killpg(process.pid, number)
    assert process.wait(timeout=30) == status
    wait_for(lambda: not alive(pid))
    assert not folder.exists()


def test_services_stop_when_the_script_is_killed(user):
    process, pid, _ = user("sleep 600")
    process.kill()
    wait_for(lambda: not alive(pid))


def test_a_service_that_dies_ends_the_script_with_its_message(user, tmp_path):
    process, pid, _ = user("echo unreachable >&2", corpus=tmp_path / "no_corpus.jsonl")
    errors = process.stderr.read()
    assert process.wait(timeout=30) != 0 and pid is None
    assert "no_corpus.jsonl" in errors and "unreachable" not in errors


def test_a_signal_to_the_stage_script_alone_reaches_the_trainer(scripts, environment, tmp_path):
    """`kill PID`, `docker stop` and job systems signal the script, not its children."""
    python = tmp_path / "trainer"
    note = tmp_path / "note"
    python.write_text(f"#!/usr/bin/env bash\ntrap 'exit 143' TERM\necho $$ >{note}\nsleep 15 & wait\n")
    python.chmod(0o755)
    env = {**environment, "TEST_PYTHON": str(python)}
    command = [
        "bash",
        str(scripts / "stage1.sh"),
        "--preset",
        "qwen7b",
        "--data",
        "d",
        "--retriever-url",
        "u",
    ]
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        wait_for(lambda: note.exists() and note.read_text())
        process.terminate()
        assert process.wait(timeout=8) == 143
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
