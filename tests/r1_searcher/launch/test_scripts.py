"""The shell scripts: their syntax, and that they hand a user's words to Python, whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
SCRIPTS = sorted({*REPO.glob("train_scripts/**/*.sh"), *REPO.glob("tests/**/*.sh"), *REPO.glob("benchmarks/*.sh")})
MINE = ["--preset", "tiny", "--run-dir", "/a b/run", "--data=/x y.jsonl", "--data.input_template", "a $b 'c' {}"]
TRAIN = ["-m", "r1_searcher.train"]


def test_the_syntax_of_all_scripts(run):
    assert len(SCRIPTS) > 10
    done = run(["bash", "-c", 'for script in "$@"; do bash -n "$script" || echo "$script"; done', "bash", *SCRIPTS])
    assert (done.out, done.err) == ("", "")


@pytest.mark.parametrize(
    ("script", "begins"),
    [
        ("train.sh", TRAIN),
        ("stage1.sh", [*TRAIN, "--system", "r1_searcher", "--stage", "stage1"]),
        ("stage2.sh", [*TRAIN, "--system", "r1_searcher", "--stage", "stage2"]),
        ("r1_searcher_auto.sh", [*TRAIN, "--system", "r1_searcher", "--stage", "auto"]),
        ("search_r1.sh", [*TRAIN, "--system", "search_r1"]),
        ("research.sh", [*TRAIN, "--system", "research"]),
        ("zerosearch.sh", [*TRAIN, "--system", "zerosearch"]),
        ("deep_researcher.sh", [*TRAIN, "--system", "deep_researcher"]),
        ("quickstart.sh", ["-m", "eval.quickstart", "--setup-seconds", "0"]),
        ("simulator.sh", ["-m", "data_prep.simulator_model"]),
    ],
)
def test_a_script_names_its_system_and_hands_on_what_the_user_says(arguments_of_script, script, begins):
    """From another folder, with a space in the path of the checkout."""
    assert arguments_of_script(script, *MINE) == [*begins, *MINE]


def test_preset_and_seed_may_stand_in_the_environment(arguments_of_script, monkeypatch):
    """An option of the user's comes later, and wins."""
    words = arguments_of_script("stage1.sh", "--seed", "5", PRESET="a b.toml", SEED="4")
    assert words == [
        *TRAIN,
        "--preset",
        "a b.toml",
        "--seed",
        "4",
        *["--system", "r1_searcher", "--stage", "stage1"],
        "--seed",
        "5",
    ]


def test_a_set_up_that_fails_ends_the_script(scripts, run, environment):
    done = run(["bash", scripts / "stage1.sh"], env={**environment, "TEST_SETUP_FAILS": "1"})
    assert done.status == 1 and done.out == ""


def test_a_signal_to_the_script_alone_reaches_the_trainer(scripts, environment, tmp_path):
    """`kill PID`, `docker stop` and job systems signal the script, not its children."""
    python = tmp_path / "trainer"
    note = tmp_path / "note"
    python.write_text(f"#!/usr/bin/env bash\ntrap 'exit 143' TERM\necho $$ >{note}\nsleep 15 & wait\n")
    python.chmod(0o755)
    process = subprocess.Popen(
        ["bash", str(scripts / "stage1.sh")], env={**environment, "TEST_PYTHON": str(python)}, start_new_session=True
    )
    try:
        give_up_at = time.monotonic() + 40
        while not (note.exists() and note.read_text()):
            assert time.monotonic() < give_up_at, "the trainer did not start"
            time.sleep(0.02)
        process.terminate()
        assert process.wait(timeout=8) == 143
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
