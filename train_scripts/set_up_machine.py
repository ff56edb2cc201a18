"""What the set-up asks of a machine, and what it refuses before anything is written: memory, disk, compilers, a Python.

Only the standard library, and nothing newer than Python 3.9, as `set_up.py`.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AGAIN = "bash train_scripts/setup.sh"
FITTING = ("3.11", "3.12")

PROBE = """
import importlib.util, os, sys, sysconfig
facts = ["%d.%d" % sys.version_info[:2]]
if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"): facts.append("venv")
if os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")): facts.append("headers")
print(" ".join(facts))
"""
"""Prints `3.11 venv headers` for a Python that fits; a word is missing where the thing is."""

IMPORTS = """
import sys
import torch
if sys.argv[1] == "cpu" and torch.version.cuda is not None:
    sys.exit(print(f"a CUDA build of torch ({torch.__version__})"))
if sys.argv[1] == "gpu" and not torch.cuda.is_available():
    sys.exit(print(f"no GPU that torch {torch.__version__} can use"))
import deepspeed, faiss, flask, openrlhf, ray, transformers, vllm
import vllm.v1.engine.async_llm  # imports what `import vllm` puts off
import r1_searcher
print("ok")
"""
"""Prints `ok` where everything was installed for the machine that this is; else what was not."""

DRIVERS = {12: "525", 13: "580"}
"""CUDA's major version -> the first NVIDIA driver that runs it (NVIDIA's CUDA compatibility table)."""
FLASH_ATTN_KERNELS = {8: "80", 9: "90", 10: "100", 12: "120"}
"""Major compute capability of a GPU -> the kernels that flash-attn 2.8.3 builds for it (its setup.py)."""
GB_PER_FLASH_ATTN_JOB = 9
"""Memory of one compilation of flash-attn (its setup.py)."""


class Refused(Exception):
    """What is wrong, and the command that puts it right."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}  Fix: {fix}")


class Failed(Refused):
    """A step that was begun has failed: the cause stands in the log."""


class Machine:
    """What the set-up asks of this machine, and the programs that it runs."""

    def system(self) -> str:
        """Name and architecture, e.g. `Linux x86_64`."""
        return f"{platform.system()} {platform.machine()}"

    def has(self, command: str) -> bool:
        """Whether a command can be run."""
        return shutil.which(command) is not None

    def disk_gb(self, place: Path) -> int:
        """Free space, in GiB."""
        return shutil.disk_usage(place).free >> 30

    def cores(self) -> int:
        """Processors that this process may use."""
        return len(os.sched_getaffinity(0))

    def memory_gb(self) -> int:
        """Memory in GiB, rounded up, or the container's limit where that is smaller."""
        found = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)
        size = int(found.group(1)) << 10 if found else 0
        limit = Path("/sys/fs/cgroup/memory.max")
        said = limit.read_text().strip() if limit.is_file() else "max"
        return -(-(size if said == "max" else min(size, int(said))) >> 30)

    def output(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> str:
        """What a command prints; empty where it cannot be run. Its errors go to the log."""
        with (log or Path(os.devnull)).open("ab") as errors:
            try:
                done = subprocess.run(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
                )
            except OSError:
                return ""
        return done.stdout.decode(errors="replace").strip()

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command; all that it says goes to the log."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT
            )


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    environment: Path
    device: str
    """`cpu` or `gpu`."""
    dev: bool = False
    active: bool = False
    """Whether the environment is one that the user has activated, which is never made or replaced."""


def read_request(arguments: Sequence[str], variables: Mapping[str, str], machine: Machine, root: Path) -> Request:
    """The request of a command line. Raises `Refused`."""
    for argument in arguments:
        if argument not in ("--dev", "--print-python"):
            raise Refused(f"unknown argument '{argument}' (known: --dev, --print-python).", f"{AGAIN} --help")
    active = variables.get("R1_SEARCHER_USE_ACTIVE_ENV", "0") == "1"
    environment = (variables.get("VIRTUAL_ENV") or variables.get("CONDA_PREFIX") or "") if active else root / ".venv"
    if not environment:
        raise Refused("R1_SEARCHER_USE_ACTIVE_ENV=1, but no environment is active.", "unset R1_SEARCHER_USE_ACTIVE_ENV")
    device = variables.get("R1_SEARCHER_DEVICE", "")
    if device not in ("", "cpu", "gpu"):
        raise Refused(f"R1_SEARCHER_DEVICE is '{device}', expected cpu or gpu.", "unset R1_SEARCHER_DEVICE")
    if not device:
        device = "gpu" if re.search("^GPU", machine.output(["nvidia-smi", "-L"]), re.M) else "cpu"
    return Request(Path(environment), device, "--dev" in arguments, active)


def check_machine(request: Request, machine: Machine, variables: Mapping[str, str], root: Path) -> None:
    """Refuse a machine on which the set-up cannot succeed, before anything is written. Raises `Refused`."""
    system = machine.system()
    if system != "Linux x86_64":
        docker = f'docker run --platform linux/amd64 -it -v "{root}":/r1 -w /r1 python:3.11 {AGAIN}'
        raise Refused(f"this is {system}; the pinned packages exist for Linux x86_64 only.", docker)
    compiler = variables.get("CXX") or "g++"
    if not machine.has(compiler):
        raise Refused(f"no C++ compiler ({compiler}); DeepSpeed is compiled here.", "sudo apt-get install -y g++")
    if request.device == "gpu" and not machine.has("nvcc") and not machine.has(str(_nvcc(variables))):
        without = f"or, to run without the GPU: R1_SEARCHER_DEVICE=cpu {AGAIN}"
        raise Refused(
            "no CUDA compiler (nvcc); flash-attn is compiled here.", f"export CUDA_HOME=/path/to/cuda-13   ({without})"
        )
    if request.device == "gpu":
        check_cuda(Cuda.of(machine, variables, root))
    _check_disk(request, machine, variables, root)
    needed, found = int(variables.get("R1_SEARCHER_MIN_MEMORY_GB") or 6), machine.memory_gb()
    if needed and found < needed:
        raise Refused(
            f"{found} GB of memory, {needed} GB needed.",
            f"R1_SEARCHER_MIN_MEMORY_GB={found} {AGAIN}   (lets it try; better a larger machine)",
        )


def _check_disk(request: Request, machine: Machine, variables: Mapping[str, str], root: Path) -> None:
    needed = int(variables.get("R1_SEARCHER_MIN_DISK_GB") or (30 if request.device == "gpu" else 8))
    if not needed:
        return
    place = request.environment if request.environment.is_dir() else root
    free = machine.disk_gb(place)
    held = sum(path.lstat().st_blocks * 512 for path in request.environment.rglob("*")) >> 30
    if free + held < needed:
        raise Refused(
            f"{free} GB of disk free at {place}, {needed} GB needed.",
            f"pip cache purge   (or free space otherwise; R1_SEARCHER_MIN_DISK_GB={free} lets it try)",
        )


@dataclass(frozen=True)
class Cuda:
    """What compiles for the GPUs, and what runs them."""

    capabilities: tuple[str, ...]
    """Compute capabilities of the GPUs, such as `8.0`, each once."""
    driver: str
    """Version of the NVIDIA driver."""
    driver_cuda: str
    """The newest CUDA that the driver runs."""
    nvcc: str
    """Version of the compiler."""
    torch: str
    """The CUDA that the pinned torch is built for."""

    @classmethod
    def of(cls, machine: Machine, variables: Mapping[str, str], root: Path) -> Cuda:
        """Ask the machine; what does not answer is empty."""
        listed = machine.output(["nvidia-smi", "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"])
        gpus = [line.split(",") for line in listed.splitlines() if "," in line]
        nvcc = [str(_nvcc(variables)), "nvcc"]
        said = next(filter(None, (machine.output([compiler, "--version"]) for compiler in nvcc)), "")
        pinned = (root / "requirements.txt").read_text(encoding="utf-8")
        return cls(
            capabilities=tuple(sorted({gpu[0].strip() for gpu in gpus}, key=_numbers)),
            driver=gpus[0][1].strip() if gpus else "",
            driver_cuda=_first(r"CUDA Version:\s*([0-9.]+)", machine.output(["nvidia-smi"])),
            nvcc=_first(r"release ([0-9.]+)", said),
            torch=_first(r"(?m)^nvidia-cuda-runtime==([0-9]+\.[0-9]+)", pinned),
        )

    @property
    def is_another_minor_version(self) -> bool:
        """Whether compiler and torch differ in the minor version, which DeepSpeed refuses to compile with."""
        return bool(self.nvcc) and _numbers(self.nvcc)[:2] != _numbers(self.torch)[:2]

    def build_variables(self, machine: Machine) -> dict[str, str]:
        """Variables under which flash-attn and DeepSpeed compile for the GPUs at hand, and for no others."""
        jobs = max(1, min(machine.cores() // 2, machine.memory_gb() // GB_PER_FLASH_ATTN_JOB))
        built = {"MAX_JOBS": str(jobs), "TORCH_CUDA_ARCH_LIST": ";".join(self.capabilities)}
        kernels = dict.fromkeys(FLASH_ATTN_KERNELS.get(_numbers(each)[0], "") for each in self.capabilities)
        if all(kernels):
            built["FLASH_ATTN_CUDA_ARCHS"] = ";".join(kernels)
        if self.is_another_minor_version:
            built["DS_SKIP_CUDA_CHECK"] = "1"
        return {name: value for name, value in built.items() if value}


def check_cuda(cuda: Cuda) -> None:
    """Refuse GPUs, a driver or a compiler that torch cannot work with: installing takes long. Raises `Refused`."""
    without = f"or, to run without the GPU: R1_SEARCHER_DEVICE=cpu {AGAIN}"
    major = _numbers(cuda.torch)[0]
    old = [each for each in cuda.capabilities if _numbers(each)[0] < min(FLASH_ATTN_KERNELS)]
    if old:
        raise Refused(
            f"a GPU of compute capability {old[0]}; bf16 and flash-attn need 8.0 (Ampere) or newer.",
            f"take a machine with newer GPUs   ({without})",
        )
    if cuda.driver_cuda and _numbers(cuda.driver_cuda)[0] < major:
        raise Refused(
            f"the NVIDIA driver {cuda.driver} runs CUDA {cuda.driver_cuda}; torch is built for CUDA {cuda.torch}.",
            f"install driver {DRIVERS.get(major, 'for CUDA ' + cuda.torch)} or newer   ({without})",
        )
    if cuda.nvcc and _numbers(cuda.nvcc)[0] != major:
        raise Refused(
            f"the CUDA compiler (nvcc) is of CUDA {cuda.nvcc}; torch is built for CUDA {cuda.torch}.",
            f"export CUDA_HOME=/path/to/cuda-{cuda.torch}   ({without})",
        )


def _nvcc(variables: Mapping[str, str]) -> Path:
    return Path(variables.get("CUDA_HOME") or "/usr/local/cuda", "bin", "nvcc")


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def find_python(machine: Machine, variables: Mapping[str, str]) -> str:
    """The first Python to build an environment from. Raises `Refused` naming what is missing."""
    named = variables.get("PYTHON", "")
    pyenv = variables.get("PYENV_ROOT") or os.path.join(variables.get("HOME", ""), ".pyenv")
    versions = [glob.glob(f"{pyenv}/versions/{version}.*/bin/python") for version in FITTING]
    candidates = [named] if named else ["python3.11", "python3.12", "python3", "python", *sum(versions, [])]
    lacking: list[str] = []
    seen = ""
    for candidate in candidates:
        version, *parts = machine.output([candidate, "-c", PROBE]).split() or [""]
        if version in FITTING and parts == ["venv", "headers"]:
            return candidate
        if version in FITTING:
            lacking = lacking or [version, *parts]
        elif version:
            seen += f" {candidate} is {version};"
    if lacking:
        version = lacking[0]
        if "venv" in lacking:
            raise Refused(
                f"Python {version} has no headers (Python.h); DeepSpeed is compiled against them.",
                f"sudo apt-get install -y python{version}-dev",
            )
        raise Refused(
            f"Python {version} has no venv module.",
            f"sudo apt-get install -y python{version}-venv python{version}-dev",
        )
    raise Refused(
        f"no Python 3.11 or 3.12 that runs ({f'PYTHON={named}; ' if named else ''}found:{seen or ' none'}).",
        f"sudo apt-get install -y python3.11-venv python3.11-dev   (or PYTHON=/path/to/python3.11 {AGAIN})",
    )
