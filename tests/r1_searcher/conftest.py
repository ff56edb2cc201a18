"""What tests of the training stack share: the training command and its scripts, run as a user runs them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.models.subjects import BASE, TINY

from r1_searcher.inspection.subject import Subject, load_subject

REPO = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: imports the host's or vLLM's heavy modules")


@dataclasses.dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    status: int
    out: str
    err: str
    seconds: float


def clean_environment() -> dict[str, str]:
    """The environment without what would make a run another one."""
    ours = ("R1_SEARCHER_", "RAY_", "WANDB_", "PRESET", "SEED")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def run_process(command: Sequence[object], *, timeout: float = 120, **options: object) -> Finished:
    options.setdefault("env", clean_environment())
    started = time.monotonic()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, **options)
    return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    return clean_environment()


@pytest.fixture(scope="session")
def run() -> Callable[..., Finished]:
    """Runs a command to its end."""
    return run_process


@pytest.fixture(scope="session")
def train() -> Callable[..., Finished]:
    """Runs `python -m r1_searcher.train` with these arguments."""

    def start(*arguments: object, **options: object) -> Finished:
        return run_process([sys.executable, "-m", "r1_searcher.train", *arguments], **options)

    return start


@pytest.fixture(scope="session")
def model(repo: Path) -> Path:
    return repo / "data_prep" / "tiny" / "model"


@pytest.fixture(scope="session")
def good() -> Subject:
    """The tiny base model under stage 2's recipe, in which no check finds a fault."""
    return load_subject(TINY, str(BASE))


@pytest.fixture(scope="session")
def dead_url() -> Iterator[str]:
    """An address of this machine that refuses connections: a port that is taken and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="session")
def scripts(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the training scripts, at a path with a space in it, whose set-up is this interpreter.

    With TEST_PYTHON set, that program is what the scripts take for Python.
    """
    folder = tmp_path_factory.mktemp("copy") / "a checkout" / "train_scripts"
    shutil.copytree(repo / "train_scripts", folder)
    test = '[[ -z "${TEST_SETUP_FAILS:-}" && "$1" == --print-python ]]'
    setup = f'{test} && echo "${{TEST_PYTHON:-{sys.executable}}}"\n'
    (folder / "setup.sh").write_text(setup)
    return folder


@pytest.fixture(scope="session")
def arguments_of_script(
    scripts: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[str]]:
    """Runs a script and returns the arguments that it gives Python."""
    python = tmp_path_factory.mktemp("bin") / "fake python"
    python.write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)

    def start(script: str, *arguments: str, **variables: str) -> list[str]:
        env = {**environment, "TEST_PYTHON": str(python), **variables}
        done = run_process(["bash", scripts / script, *arguments], env=env, cwd="/")
        assert done.status == 0, done.err
        return done.out.split("\0")[:-1]

    return start
