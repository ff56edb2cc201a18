"""Set up the Python environment; `setup.sh` finds a Python to run this, and says how it is called.

Only the standard library, and nothing newer than Python 3.9: this runs before anything is installed, and where no fit
Python is found it is still this that says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from set_up_machine import (
    AGAIN,
    DRIVERS,
    FITTING,
    IMPORTS,
    PROBE,
    ROOT,
    Cuda,
    Failed,
    Machine,
    Refused,
    Request,
    check_machine,
    find_python,
    read_request,
)

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENTS = ("requirements.txt", "requirements-cpu-torch.txt", "requirements-cpu.txt", "requirements-dev.txt")
LOCKS = "train_scripts/locks"
"""Each requirements file again with the hashes of its packages, written by `lock.py`."""
STATE_FILES = (*REQUIREMENTS, *(f"{LOCKS}/{name}" for name in REQUIREMENTS), "pyproject.toml")
CHECKED = ("--no-deps", "--require-hashes")
"""Nothing is left to a resolver, and nothing is installed that is not the locked file, byte for byte."""
BUILD_TOOLS = ("setuptools", "wheel", "ninja", "packaging", "psutil", "py-cpuinfo")
COMPILED_LAST = ("flash-attn", "deepspeed")
"""Compiled on GPU machines against the torch that is already there."""
SHM_COMM = "deepspeed/ops/comm/deepspeed_shm_comm_op*.so"
FUSED_ADAM = "deepspeed/ops/adam/fused_adam_op*.so"


@dataclass
class SetUp:
    """One set-up of an environment."""

    request: Request
    machine: Machine
    variables: Mapping[str, str]
    root: Path = ROOT
    dev: bool = False
    _compiling: dict[str, str] = field(default_factory=dict)
    """Variables of what is compiled for GPUs; the user's own win."""
    _step: int = 0
    _started: float = field(default_factory=time.monotonic)

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.request.environment / "bin" / "python"

    @property
    def log(self) -> Path:
        """What the steps say."""
        return self.request.environment / "setup.log"

    @property
    def stamp(self) -> Path:
        """The state that a finished set-up leaves, one fact per line."""
        return self.request.environment / ".r1_searcher_setup"

    @property
    def unfinished(self) -> Path:
        """Exists while packages are being installed, and after a kill."""
        return self.request.environment / ".r1_searcher_unfinished"

    def run(self) -> None:
        """Make the environment, or bring it up to date; nothing where it is. Raises `Refused`."""
        if self._is_up_to_date():
            return
        check_machine(self.request, self.machine, self.variables, self.root)
        base = "" if self.python.exists() else find_python(self.machine, self.variables)
        with self._lock():
            if not self._is_up_to_date():  # else the one that we waited for has done it
                self._set_up(base)

    def _set_up(self, base: str) -> None:
        self.dev = self.request.dev or "dev 1" in self._stamped()  # what was there is kept up to date
        now = time.strftime("%FT%TZ", time.gmtime())
        self._note(f"\n##### set-up of {now} for {self.request.device}")
        self._say(f"setting up for {self.request.device} in {self.request.environment} (log: {self.log})")
        self._begin("the environment")
        self._follow_move()
        self.stamp.unlink(missing_ok=True)
        self._make_environment(base)
        if self.unfinished.exists():
            self._forget_half_installed()
        self.unfinished.touch()
        torch = re.search(r"^torch==([0-9.]*)", self._text("requirements.txt"), re.M)
        version = torch.group(1) if torch else ""
        if self.request.device == "cpu":
            self._install_for_cpu(version)
        else:
            self._install_for_gpu(version)
        if self.dev:
            self._begin("the checks and tests")
            missing = "the development packages could not be installed."
            self._pip(missing, *CHECKED, "-r", f"{LOCKS}/requirements-dev.txt")
        self._begin("this project, editable")
        editable = ("--no-deps", "--no-build-isolation", "-e", ".")
        self._pip("the project itself could not be installed.", *editable)
        self._begin("does everything import?")
        self._check_imports()
        draft = self.stamp.with_suffix(".new")
        draft.write_text("".join(f"{fact}\n" for fact in (*self._wanted_state(), f"dev {int(self.dev)}")))
        draft.replace(self.stamp)
        self.unfinished.unlink()
        self._say(f"ready: {self.python}")

    # ---- is it done already?

    def _wanted_state(self) -> list[str]:
        files = hashlib.sha256(b"".join((self.root / name).read_bytes() for name in STATE_FILES)).hexdigest()
        version = self.machine.output([str(self.python), "-V"])
        return [f"root {self.root}", f"device {self.request.device}", f"python {version}", f"files {files}"]

    def _stamped(self) -> list[str]:
        return self.stamp.read_text().splitlines() if self.stamp.is_file() else []

    def _is_up_to_date(self) -> bool:
        stamped = self._stamped()
        if not stamped or not self.python.exists() or (self.request.dev and "dev 1" not in stamped):
            return False
        return [fact for fact in stamped if not fact.startswith("dev ")] == self._wanted_state()

    # ---- the environment

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One set-up at a time in an environment; the lock is released when this process ends, however it ends."""
        self.request.environment.mkdir(parents=True, exist_ok=True)
        with (self.request.environment / ".r1_searcher_lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("another set-up is at work here; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_environment(self, base: str) -> None:
        environment, python = self.request.environment, str(self.python)
        works = self.python.exists() and self.machine.output([python, "-m", "pip", "--version"])
        if works and self.machine.output([python, "-c", PROBE]).startswith(FITTING):
            return
        if self.request.active:
            raise Refused(
                f"the active environment {environment} has no Python 3.11 or 3.12 with pip.",
                "unset R1_SEARCHER_USE_ACTIVE_ENV",
            )
        base = base or find_python(self.machine, self.variables)
        self._say(f"making .venv from {base} ({self.machine.output([base, '-V'])})")
        # Not `venv --clear`: that would remove the lock which this process holds.
        for name in ("bin", "include", "lib", "lib64", "share", "pyvenv.cfg"):
            path = environment / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if self._logged([base, "-m", "venv", str(environment)]) != 0:
            self._fail(f"could not make {environment}.")

    def _forget_half_installed(self) -> None:
        """Remove packages that a kill left half there: without INSTALLER, which pip writes last but does not miss."""
        for folder in self.request.environment.glob("lib/python3.*/site-packages/*.dist-info"):
            if folder.is_dir() and not (folder / "INSTALLER").exists():
                self._note(f"half installed, to be installed again: {folder}")
                shutil.rmtree(folder)

    def _follow_move(self) -> None:
        """Correct the environment's scripts (ray, pip) after a move: they still name the Python of the old place."""
        old = next((fact[5:] for fact in self._stamped() if fact.startswith("root ")), "")
        if not old or old == str(self.root) or self.request.environment != self.root / ".venv":
            return
        self._say(f"the project was moved from {old}; correcting .venv")
        before, after = f"{old}/.venv/".encode(), f"{self.root}/.venv/".encode()
        for path in (self.request.environment / "bin").iterdir():
            if path.is_file() and not path.is_symlink():
                text = path.read_bytes()
                if before in text and b"\0" not in text:
                    path.write_bytes(text.replace(before, after))

    # ---- the packages

    def _install_for_cpu(self, torch: str) -> None:
        self._begin(f"torch {torch}, CPU build")
        # Not locked: PyTorch's own index has it. First wherever the user's own pip looks; "+cpu" never matches a CUDA
        # build.
        build = ("--no-deps", f"torch=={torch}+cpu")
        if self._logged(self._pip_command(*build)) != 0:
            missing = f"no CPU build of torch {torch}, neither in pip's own places nor in {TORCH_CPU_INDEX}."
            self._pip(missing, "--extra-index-url", TORCH_CPU_INDEX, *build)
        failure = "the packages could not be installed."
        self._pip(failure, *CHECKED, "-r", f"{LOCKS}/requirements-cpu-torch.txt")
        self._begin("the pinned packages, while DeepSpeed is compiled in the background")
        with self._wheel_of_deepspeed() as finish:
            rest = self._locked("requirements-cpu.txt", without=("deepspeed",))
            self._pip(failure, *CHECKED, "--no-build-isolation", "-r", rest)
            self._begin("DeepSpeed")
            finish()

    def _locked(self, name: str, only: Sequence[str] = (), without: Sequence[str] = ()) -> str:
        """Write some of the entries of a lock to a file of their own; its path."""
        entries = re.findall(r"^\S.*(?:\n[ \t].*)*", self._text(f"{LOCKS}/{name}"), re.M)
        packages = {entry.partition("==")[0]: entry for entry in entries}
        kept = [packages[name] for name in only or packages if name not in without]
        part = self.request.environment / ".r1_searcher_locks" / f"{'_'.join(only) or Path(name).stem}.txt"
        part.parent.mkdir(exist_ok=True)
        part.write_text("\n".join(kept) + "\n", encoding="utf-8")
        return str(part)

    @contextmanager
    def _wheel_of_deepspeed(self) -> Iterator[Callable[[], None]]:
        """Compile DeepSpeed in the background; gives a function that waits for it and installs it."""
        environment = self.request.environment
        deepspeed = self._pin("requirements-cpu.txt", "deepspeed")
        wheels, log = environment / ".r1_searcher_wheels", environment / "setup-deepspeed.log"
        if self._has_deepspeed(deepspeed, SHM_COMM, FUSED_ADAM):
            yield lambda: None
            return
        # Compiled with the ops that the first training run would otherwise have to compile; where that is killed, later
        # runs wait for it for ever. Never from pip's cache: a wheel without the ops has the same name. DeepSpeed uses
        # ninja, which compiles an op's files side by side, only where it is asked to.
        options = ("--no-cache-dir", "--no-build-isolation", "-w", str(wheels))
        source = self._locked("requirements-cpu.txt", only=("deepspeed",))
        ops = {"DS_BUILD_SHM_COMM": "1", "DS_BUILD_FUSED_ADAM": "1", "DS_ENABLE_NINJA": "1"}
        job = self.machine.start(
            self._pip_command(*CHECKED, *options, "-r", source, verb="wheel"),
            log,
            {**self._environment(), "DS_ACCELERATOR": "cpu", **ops},
        )

        def finish() -> None:
            status = job.wait()
            self._note(log.read_text(errors="replace"))
            log.unlink()
            if status != 0:
                self._fail("DeepSpeed could not be compiled.")
            found = ("--no-deps", "--no-index", "--find-links", str(wheels), "--force-reinstall")
            self._pip("DeepSpeed could not be installed.", *found, deepspeed)
            shutil.rmtree(wheels, ignore_errors=True)

        try:
            yield finish
        finally:
            if job.poll() is None:
                job.terminate()
                job.wait()

    def _has_deepspeed(self, requirement: str, *ops: str) -> bool:
        """Whether this DeepSpeed is there with these compiled ops."""
        version = requirement.partition("==")[2]
        packages = "lib/python3.*/site-packages"
        wanted = (f"deepspeed-{version}.dist-info/INSTALLER", *ops)
        return all(any(self.request.environment.glob(f"{packages}/{name}")) for name in wanted)

    def _pin(self, name: str, package: str) -> str:
        """The line `package==version` of a requirements file."""
        return next(line for line in self._text(name).splitlines() if line.startswith(f"{package}=="))

    def _install_for_gpu(self, torch: str) -> None:
        self._begin("the tools that compile")
        built = (*CHECKED, "--no-build-isolation")
        tools = self._locked("requirements.txt", only=BUILD_TOOLS)
        self._pip("the build tools could not be installed.", *CHECKED, "-r", tools)
        self._begin(f"torch {torch}, CUDA build, and the pinned packages")
        rest = self._locked("requirements.txt", without=COMPILED_LAST)
        self._pip("the packages could not be installed.", *built, "-r", rest)
        cuda = Cuda.of(self.machine, self.variables, self.root)
        self._compiling = cuda.build_variables(self.machine)
        self._say(f"compiling with {shlex.join(f'{name}={value}' for name, value in self._compiling.items())}")
        if cuda.is_another_minor_version:
            self._say(f"nvcc is of CUDA {cuda.nvcc}, torch of {cuda.torch}: one major version, so DeepSpeed may try")
        self._begin("flash-attn, compiled here unless a wheel fits (some 20 minutes, or more on few processors)")
        flash_attn, deepspeed = (self._locked("requirements.txt", only=(name,)) for name in COMPILED_LAST)
        self._pip("flash-attn could not be compiled.", *built, "-r", flash_attn)
        self._begin("DeepSpeed, with the optimizer that the first training step needs")
        if not self._has_deepspeed(self._pin("requirements.txt", "deepspeed"), FUSED_ADAM):
            # Its ops are compiled against these; never from pip's cache: a wheel without the ops has the same name.
            self._compiling["DS_BUILD_FUSED_ADAM"] = "1"
            fresh = ("--no-cache-dir", "--force-reinstall")
            self._pip("DeepSpeed could not be compiled.", *fresh, *built, "-r", deepspeed)

    def _check_imports(self) -> None:
        environment = self._environment()
        if self.request.device == "cpu":
            environment["DS_ACCELERATOR"] = environment.get("DS_ACCELERATOR") or "cpu"
        command = [str(self.python), "-c", IMPORTS, self.request.device]
        result = (self.machine.output(command, environment, self.log).splitlines() or [""])[-1]
        if result.startswith("a CUDA build"):
            raise Refused(
                f"the environment has {result}, which a machine without a GPU cannot use.",
                f'"{self.python}" -m pip uninstall -y torch && {AGAIN}',
            )
        if result.startswith("no GPU that torch"):
            raise Refused(
                f"there is {result}; nvidia-smi lists the GPUs, and the driver must be {DRIVERS[13]} or newer.",
                f"R1_SEARCHER_DEVICE=cpu {AGAIN}   (runs without the GPU)",
            )
        if result != "ok":
            self._fail("the installed packages do not import.")

    # ---- saying and running

    def _pip(self, failure: str, *arguments: str) -> None:
        if self._logged(self._pip_command(*arguments)) != 0:
            self._fail(failure)

    def _pip_command(self, *arguments: str, verb: str = "install") -> list[str]:
        # With bytecode, which takes a minute: where PYTHONDONTWRITEBYTECODE is set, each worker would compile 30 s
        # worth of imports again.
        return [str(self.python), "-m", "pip", verb, "--disable-pip-version-check", "--no-input", *arguments]

    def _environment(self) -> dict[str, str]:
        """Variables of what is run: the environment's own programs (ninja) come first."""
        path = f"{self.request.environment / 'bin'}{os.pathsep}{self.variables.get('PATH', '')}"
        return {**self._compiling, **self.variables, "PATH": path}

    def _logged(self, command: Sequence[str]) -> int:
        """Status of a command whose output goes to the log only."""
        self._note(f"+ {shlex.join(command)}")
        process = self.machine.start(command, self.log, self._environment())
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()

    def _text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def _note(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def _say(self, line: str) -> None:
        print(f"[setup {time.monotonic() - self._started:3.0f} s] {line}", file=sys.stderr, flush=True)

    def _begin(self, title: str) -> None:
        self._step += 1
        steps = 7 if self.request.device == "gpu" else 6
        self._say(f"step {self._step} of {steps + self.dev}: {title}")
        self._note(f"\n=== step {self._step}: {title}")

    def _fail(self, what: str) -> NoReturn:
        """A step that only the log can explain."""
        end = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        print(f"--- the end of {self.log}", *end, sep="\n", file=sys.stderr)
        raise Failed(
            f"{what} The whole log: {self.log}", f"{AGAIN}   (continues where it stopped, once the cause is gone)"
        )


def main(
    arguments: Sequence[str], variables: Mapping[str, str], machine: Machine | None = None, root: Path = ROOT
) -> int:
    """Set up as asked; what is wrong is one line on stderr, with a status of `foundation.cli`'s table."""
    machine = machine or Machine()
    try:
        request = read_request(arguments, variables, machine, root)
        set_up = SetUp(request, machine, variables, root)
        set_up.run()
    except (Refused, OSError) as error:
        fix = "" if isinstance(error, Refused) else f"  Fix: {AGAIN}   (once the cause is gone)"
        print(f"setup: ERROR: {error}{fix}", file=sys.stderr)
        return 1 if isinstance(error, Failed) else 2 if isinstance(error, Refused) else 3
    if "--print-python" in arguments:
        print(set_up.python)
    return 0


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    sys.exit(main(sys.argv[1:], os.environ))
