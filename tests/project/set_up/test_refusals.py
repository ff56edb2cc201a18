"""Machines that a set-up cannot use, and wrong requests: refused before anything is written."""

from __future__ import annotations

import pytest
from support.processes.fake_machine import Machine, assert_refused


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ("3.9 venv headers", ("python3.11 is 3.9", "apt-get install -y python3.11-venv")),
        ("3.13 venv headers", ("python3.11 is 3.13", "PYTHON=/path/to/python3.11")),
        ("3.11 headers", ("Python 3.11 has no venv module", "apt-get install -y python3.11-venv")),
        ("3.11 venv", ("Python 3.11 has no headers", "apt-get install -y python3.11-dev")),
        ("3.11", ("Python 3.11 has no venv module", "python3.11-dev")),
    ],
)
def test_an_unfit_python_is_refused(machine: Machine, facts: str, parts: tuple[str, ...]) -> None:
    machine.pythons["python3.11"] = facts
    assert_refused(machine.setup(), *parts)
    assert not machine.environment.exists()


def test_no_python_at_all_is_refused(machine: Machine) -> None:
    machine.pythons.clear()
    assert_refused(machine.setup(), "no Python 3.11 or 3.12 that runs", "found: none")


def test_a_python_that_is_there_but_does_not_run_is_passed_over(machine: Machine) -> None:
    machine.pythons = {"python3.11": "", "python3.12": "3.12 venv headers"}
    result = machine.setup()
    assert result.returncode == 0
    assert "making .venv from python3.12" in result.stderr


def test_the_named_python_is_used_and_no_other(machine: Machine) -> None:
    machine.pythons["mine"] = "3.8 venv headers"
    assert_refused(machine.setup(PYTHON="mine"), "PYTHON=mine", "mine is 3.8")


def test_no_compiler_is_refused(machine: Machine) -> None:
    machine.commands.clear()
    assert_refused(machine.setup(), "no C++ compiler (g++)", "sudo apt-get install -y g++")
    assert not machine.environment.exists()


def test_too_little_disk_is_refused(machine: Machine) -> None:
    assert_refused(machine.setup(R1_SEARCHER_MIN_DISK_GB="9999999"), "9999999 GB needed", "pip cache purge")


def test_too_little_memory_is_refused(machine: Machine) -> None:
    result = machine.setup(R1_SEARCHER_MIN_MEMORY_GB="9999999")
    assert_refused(result, "GB of memory, 9999999 GB needed", "R1_SEARCHER_MIN_MEMORY_GB=")


def test_another_system_is_refused(machine: Machine) -> None:
    machine.name = "Darwin arm64"
    assert_refused(machine.setup(), "this is Darwin arm64", "docker run")


def test_a_gpu_without_its_compiler_is_refused(machine: Machine) -> None:
    machine.gpus = "GPU 0: some"
    result = machine.setup(R1_SEARCHER_DEVICE="", CUDA_HOME="/nowhere")
    assert_refused(result, "no CUDA compiler (nvcc)", "R1_SEARCHER_DEVICE=cpu bash train_scripts/setup.sh")


@pytest.mark.parametrize(
    ("arguments", "variables", "part"),
    [
        (["--fast"], {}, "unknown argument '--fast'"),
        ([], {"R1_SEARCHER_DEVICE": "tpu"}, "R1_SEARCHER_DEVICE is 'tpu', expected cpu or gpu"),
        ([], {"R1_SEARCHER_USE_ACTIVE_ENV": "1"}, "no environment is active"),
    ],
)
def test_a_wrong_request_is_refused(
    machine: Machine, arguments: list[str], variables: dict[str, str], part: str
) -> None:
    assert_refused(machine.setup(*arguments, **variables), part)
