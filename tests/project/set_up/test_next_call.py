"""The call after the first: nothing to do, something changed, or a set-up that was killed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import set_up
from support.processes.fake_machine import Killed, Machine, assert_refused


def test_the_second_call_does_nothing_and_prints_only_the_python(machine: Machine) -> None:
    first = machine.setup("--print-python")
    assert machine.pip_calls()
    second = machine.setup("--print-python")
    assert machine.pip_calls() == []
    assert first.stdout == second.stdout == f"{machine.environment}/bin/python\n"
    assert second.stderr == ""


def test_a_changed_requirement_is_installed(machine: Machine) -> None:
    machine.setup()
    machine.pip_calls()
    with (machine.project / "requirements-cpu.txt").open("a") as file:
        file.write("more==1.0\n")
    machine.setup()
    assert machine.pip_calls()


def test_dev_is_added_once_and_kept(machine: Machine) -> None:
    machine.setup()
    machine.setup("--dev")
    machine.pip_calls()
    machine.setup()
    machine.setup("--dev")
    assert machine.pip_calls() == []
    (machine.project / "pyproject.toml").write_text("")
    machine.setup()
    assert any("requirements-dev.txt" in call for call in machine.pip_calls())


def test_a_moved_project_is_corrected(machine: Machine, tmp_path: Path) -> None:
    machine.setup()
    machine.pip_calls()
    script = machine.environment / "bin/ray"
    script.write_text(f"#!{machine.environment}/bin/python\n")
    machine.project = machine.project.rename(tmp_path / "elsewhere")
    result = machine.setup("--print-python")
    assert result.stdout == f"{tmp_path}/elsewhere/.venv/bin/python\n"
    assert any("-e ." in call for call in machine.pip_calls())
    assert (machine.environment / "bin/ray").read_text() == f"#!{machine.environment}/bin/python\n"


def test_a_setup_killed_while_making_the_environment_can_be_repeated(machine: Machine) -> None:
    machine.killed_on = "-m venv"
    with pytest.raises(Killed):
        machine.setup()
    machine.killed_on = ""
    assert machine.setup().returncode == 0


def test_a_package_that_a_kill_left_half_installed_is_installed_again(machine: Machine) -> None:
    machine.killed_on = "-e ."
    with pytest.raises(Killed):
        machine.setup()
    machine.killed_on = ""
    packages = machine.environment / "lib/python3.11/site-packages"
    for name in ("whole-1.dist-info", "half-1.dist-info"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
    (packages / "whole-1.dist-info/INSTALLER").touch()
    assert machine.setup().returncode == 0
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_two_at_once_do_the_work_once(machine: Machine) -> None:
    machine.pip_seconds = 0.02
    request = set_up.read_request([], {"R1_SEARCHER_DEVICE": "cpu"}, machine, machine.project)
    both = [set_up.SetUp(request, machine, {}, machine.project) for _ in range(2)]
    threads = [threading.Thread(target=one.run) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("requirements-cpu-torch.txt" in call for call in machine.pip_calls()) == 1


def test_the_active_environment_is_used_when_asked(machine: Machine, tmp_path: Path) -> None:
    active = tmp_path / "active"
    (active / "bin").mkdir(parents=True)
    (active / "bin/python").write_text("3.11 venv headers")
    result = machine.setup("--print-python", R1_SEARCHER_USE_ACTIVE_ENV="1", VIRTUAL_ENV=str(active))
    assert result.stdout == f"{active}/bin/python\n"
    assert not machine.environment.exists()


def test_a_broken_active_environment_is_refused_and_left_alone(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "active" / "lib").mkdir(parents=True)
    result = machine.setup(R1_SEARCHER_USE_ACTIVE_ENV="1", VIRTUAL_ENV=str(tmp_path / "active"))
    assert_refused(result, "has no Python 3.11 or 3.12 with pip", "unset R1_SEARCHER_USE_ACTIVE_ENV")
    assert (tmp_path / "active" / "lib").is_dir()
