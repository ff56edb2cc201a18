"""What a set-up does on a fake machine, in this process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.processes.fake_machine import Machine, assert_refused, on_gpus


def test_a_whole_setup_installs_each_file_once_and_reports_its_steps(machine: Machine) -> None:
    result = machine.setup("--dev")
    assert result.returncode == 0, result.stderr
    calls = machine.pip_calls()
    for part in ("requirements-cpu-torch.txt", "requirements-dev.txt", "-e .", "pip wheel"):
        assert sum(part in call for call in calls) == 1, part
    assert all("--no-deps" in call for call in calls)
    unchecked = [call for call in calls if "--require-hashes" not in call]
    assert [call.split()[-1].split("==")[0] for call in unchecked] == ["torch", "deepspeed", "."]
    assert "+cpu" in unchecked[0] and "--no-index" in unchecked[1], "PyTorch's own index; the wheel built here"
    assert [f"step {k} of 7" in result.stderr for k in range(1, 8)] == [True] * 7


def test_on_cpus_deepspeed_is_compiled_with_its_ops_file_beside_file(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    (compiled,) = (
        variables for call, variables in zip(machine.pip_calls(), machine.variables, strict=True) if "pip wheel" in call
    )
    for name in ("DS_BUILD_SHM_COMM", "DS_BUILD_FUSED_ADAM", "DS_ENABLE_NINJA"):
        assert compiled[name] == "1"
    assert compiled["PATH"].startswith(str(machine.environment / "bin")), "ninja is the environment's"


def installed(call: str) -> set[str]:
    """The packages of the file that a pip call names."""
    (file,) = re.findall(r"-r (\S+)", call)
    return set(re.findall(r"^([\w.-]+)==", Path(file).read_text(), re.M))


def test_on_a_gpu_torch_goes_first_and_flash_attn_is_built_against_it(machine: Machine) -> None:
    machine.commands.add("nvcc")
    machine.gpus = "GPU 0: some"
    assert machine.setup(R1_SEARCHER_DEVICE="", R1_SEARCHER_MIN_DISK_GB="0").returncode == 0
    tools, rest, flash_attn, deepspeed, project = machine.pip_calls()
    assert all("--no-deps --require-hashes" in call for call in (tools, rest, flash_attn, deepspeed))
    assert all("--no-build-isolation" in call for call in (rest, flash_attn, deepspeed, project))
    assert {"setuptools", "ninja", "psutil"} <= installed(tools)
    assert "torch" in installed(rest) and not {"flash-attn", "deepspeed"} & installed(rest)
    assert installed(flash_attn) == {"flash-attn"}
    assert "--no-cache-dir" in deepspeed and installed(deepspeed) == {"deepspeed"}


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ({"driver_cuda": "12.4"}, ("the NVIDIA driver 580.65.06 runs CUDA 12.4", "install driver 580 or newer")),
        ({"nvcc": "12.8"}, ("(nvcc) is of CUDA 12.8; torch is built for CUDA 13.0", "export CUDA_HOME")),
        ({"nvcc": "14.0"}, ("(nvcc) is of CUDA 14.0", "export CUDA_HOME=/path/to/cuda-13.0")),
        ({"capabilities": "7.5, 580.1\n9.0, 580.1"}, ("compute capability 7.5", "8.0 (Ampere) or newer")),
    ],
)
def test_cuda_that_torch_cannot_work_with_is_refused_before_anything_is_installed(machine: Machine, facts, parts):
    for name, value in facts.items():
        setattr(machine, name, value)
    assert_refused(on_gpus(machine), *parts)
    assert machine.pip_calls() == []


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"memory": 2000},
            {"MAX_JOBS": "16", "FLASH_ATTN_CUDA_ARCHS": "90", "TORCH_CUDA_ARCH_LIST": "9.0"},
        ),
        (
            {"capabilities": "8.6, 580.1\n8.0, 580.1\n10.0, 580.1", "memory": 50},
            {"MAX_JOBS": "5", "FLASH_ATTN_CUDA_ARCHS": "80;100", "TORCH_CUDA_ARCH_LIST": "8.0;8.6;10.0"},
        ),
        ({"memory": 8, "processors": 1}, {"MAX_JOBS": "1"}),
        ({"capabilities": "", "nvcc": ""}, {"FLASH_ATTN_CUDA_ARCHS": None, "TORCH_CUDA_ARCH_LIST": None}),
        ({"nvcc": "13.0"}, {"DS_SKIP_CUDA_CHECK": None}),
        ({"nvcc": "13.2"}, {"DS_SKIP_CUDA_CHECK": "1"}),
    ],
)
def test_what_is_compiled_is_for_the_gpus_at_hand(machine: Machine, facts, expected):
    for name, value in facts.items():
        setattr(machine, name, value)
    assert on_gpus(machine).returncode == 0
    flash_attn, deepspeed = machine.variables[2:4]
    assert {name: flash_attn.get(name) for name in expected} == expected
    assert {name: deepspeed.get(name) for name in expected} == expected
    assert deepspeed["DS_BUILD_FUSED_ADAM"] == "1"


def test_the_users_own_build_variables_win(machine: Machine):
    assert on_gpus(machine, MAX_JOBS="3", FLASH_ATTN_CUDA_ARCHS="80").returncode == 0
    assert (machine.variables[2]["MAX_JOBS"], machine.variables[2]["FLASH_ATTN_CUDA_ARCHS"]) == ("3", "80")


def test_gpus_that_torch_cannot_use_after_all_are_one_line(machine: Machine):
    machine.imports = "no GPU that torch 2.13.0 can use"
    assert_refused(on_gpus(machine), "no GPU that torch 2.13.0 can use", "R1_SEARCHER_DEVICE=cpu")


def test_torch_comes_from_pytorchs_own_index_where_pip_has_no_cpu_build(machine: Machine) -> None:
    machine.pip_fails_on = r"--no-input --no-deps torch=="
    assert machine.setup().returncode == 0
    own, pytorchs = machine.pip_calls()[:2]
    assert "extra-index-url" not in own
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in pytorchs


@pytest.mark.parametrize(
    ("pip_fails_on", "part"),
    [
        ("torch==", "no CPU build of torch"),
        ("locks/requirements-cpu.txt", "the packages could not be installed"),
        ("pip wheel", "DeepSpeed could not be compiled"),
        ("-e .", "the project itself could not be installed"),
    ],
)
def test_a_failed_step_shows_the_log_and_the_next_call_goes_on(machine: Machine, pip_fails_on: str, part: str) -> None:
    machine.pip_fails_on = pip_fails_on
    result = machine.setup()
    assert_refused(result, part, "bash train_scripts/setup.sh", str(machine.environment / "setup.log"), status=1)
    assert "pip says no" in result.stderr
    machine.pip_fails_on = ""
    assert machine.setup().returncode == 0


def test_a_cuda_build_of_torch_is_refused_on_a_cpu(machine: Machine) -> None:
    machine.imports = "a CUDA build of torch (2.13.0+cu130)"
    assert_refused(machine.setup(), "2.13.0+cu130", "pip uninstall -y torch")


def test_packages_that_do_not_import_are_an_error(machine: Machine) -> None:
    machine.imports = "Traceback"
    assert_refused(machine.setup(), "do not import", status=1)
