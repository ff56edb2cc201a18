"""A machine on which set-up runs without installing anything."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import set_up

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Result:
    """What a set-up ended with."""

    returncode: int
    stdout: str
    stderr: str


class Job:
    """A command that has ended with this status."""

    def __init__(self, status: int) -> None:
        self._status = status

    def wait(self) -> int:
        return self._status

    def poll(self) -> int:
        return self._status


class Killed(BaseException):
    """The set-up's process is gone."""


@dataclass
class Machine(set_up.Machine):
    """A machine with these commands, whose Pythons install nothing; its project is a copy of what the set-up reads."""

    project: Path
    pythons: dict[str, str] = field(default_factory=lambda: {"python3.11": "3.11 venv headers"})
    """What the probe of each says."""
    commands: set[str] = field(default_factory=lambda: {"g++"})
    name: str = "Linux x86_64"
    gpus: str = ""
    capabilities: str = "9.0, 580.65.06\n9.0, 580.65.06"
    driver_cuda: str = "13.0"
    nvcc: str = "13.0"
    processors: int = 32
    memory: int = 8
    imports: str = "ok"
    pip_fails_on: str = ""
    pip_seconds: float = 0.0
    killed_on: str = ""
    calls: list[str] = field(default_factory=list)
    variables: list[dict[str, str]] = field(default_factory=list)
    """The environment of each call."""

    def system(self) -> str:
        return self.name

    def has(self, command: str) -> bool:
        return command in self.commands

    def disk_gb(self, place: Path) -> int:
        return 20

    def memory_gb(self) -> int:
        return self.memory

    def cores(self) -> int:
        return self.processors

    def output(self, command, environment=None, log=None) -> str:
        program, *arguments = map(str, command)
        if program == "nvidia-smi":
            banner = f"| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: {self.driver_cuda} |"
            return {(): banner, ("-L",): self.gpus}.get(tuple(arguments), self.capabilities)
        if arguments == ["--version"]:
            release = f"Cuda compilation tools, release {self.nvcc}, V{self.nvcc}.48"
            return release if program == "nvcc" and self.nvcc else ""
        facts = self.pythons.get(program, "")
        if Path(program).is_file():
            facts = Path(program).read_text()
        if arguments == ["-V"]:
            return f"Python {facts.split()[0]}.9"
        if arguments[:2] == ["-c", set_up.IMPORTS]:
            return self.imports
        return "pip 26" if "pip" in arguments else facts

    def start(self, command, log, environment) -> Job:
        words = " ".join(map(str, command))
        if "-m venv" in words:
            python = Path(command[-1], "bin", "python")
            python.parent.mkdir(parents=True)
            python.write_text(self.pythons[command[0]])
        else:
            self.calls.append(words)
            self.variables.append(dict(environment))
            for file in re.findall(r"-r (\S+)", words):
                assert (self.project / file).is_file(), file
            time.sleep(self.pip_seconds)
        if self.killed_on and self.killed_on in words:
            raise Killed
        if self.pip_fails_on and re.search(self.pip_fails_on, words):
            with log.open("a") as output:
                output.write("pip says no\n")
            return Job(1)
        log.touch()
        return Job(0)

    def setup(self, *arguments: str, **variables: str) -> Result:
        out, errors = io.StringIO(), io.StringIO()
        known = {"R1_SEARCHER_DEVICE": "cpu", "HOME": "/nowhere", **variables}
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = set_up.main(arguments, known, self, self.project)
        return Result(status, out.getvalue(), errors.getvalue())

    def pip_calls(self) -> list[str]:
        """The pip calls since the last time this was asked."""
        calls, self.calls = self.calls, []
        return calls

    @property
    def environment(self) -> Path:
        return self.project / ".venv"


def machine_in(folder: Path) -> Machine:
    """A machine on which set-up succeeds; the folder gets its project."""
    project = folder / "project"
    project.mkdir()
    for file in [*ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml"]:
        shutil.copy(file, project)
    shutil.copytree(ROOT / set_up.LOCKS, project / set_up.LOCKS)
    return Machine(project)


def assert_refused(result: Result, *parts: str, status: int = 2) -> None:
    """One line that says what is wrong and what puts it right; nothing on stdout, which scripts read."""
    assert result.returncode == status
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("setup: ERROR: ")]
    assert len(errors) == 1
    assert "  Fix: " in errors[0]
    for part in parts:
        assert part in errors[0]


def on_gpus(machine: Machine, **variables: str) -> Result:
    machine.commands.add("nvcc")
    machine.gpus = "GPU 0: some"
    return machine.setup(R1_SEARCHER_DEVICE="", R1_SEARCHER_MIN_DISK_GB="0", CUDA_HOME="/nowhere", **variables)
