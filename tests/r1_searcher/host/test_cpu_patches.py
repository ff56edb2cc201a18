"""The CPU patches: inert where they are not wanted, still needed by the host, and doing what they say."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import socket
import struct
import sys
from pathlib import Path

import pytest
from support.processes.gloo_part import take_part

from r1_searcher.host import cpu, worker
from r1_searcher.host.device import Device, threads_for, worker_environment
from r1_searcher.host.patches import host_patch

STATES = """
import json, os, sys
finders = len(sys.meta_path)
from r1_searcher.host import cpu

def state():
    return dict(
        patched=torch.cuda.synchronize.__name__ == "<lambda>", finders=len(sys.meta_path) - finders,
        flash_attn="flash_attn" in sys.modules,
        heavy=sorted({"vllm", "ray", "openrlhf", "deepspeed"} & set(sys.modules)),
    )
"""
PATCHED = """
cpu.install(); cpu.install()
import torch, torch.cuda
found = dict(wanted=state())
from flash_attn.bert_padding import index_first_axis, pad_input, rearrange, unpad_input
from flash_attn.utils.distributed import all_gather
try:
    pad_input(1)
except RuntimeError as error:
    found["flash_attn"] = str(error)
print(json.dumps(found))
"""
INERT_TWICE = """
cpu.install(); cpu.install()
import torch, torch.cuda
found = dict(unwanted=state())
os.environ["R1_SEARCHER_CPU"] = "1"
torch.cuda.is_available = lambda: True
cpu.install(); cpu.install()
found["cuda"] = state()
print(json.dumps(found))
"""


def source_of(module: str) -> Path:
    """Its file, found without importing the module's parents."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]).joinpath(*rest).with_suffix(".py")


PATCHES = (*cpu.PATCHES, *worker.PATCHES)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.apply.__name__)
def test_the_installed_host_still_needs_the_patch(patch):
    """Red after an upgrade of the host: drop the patch, or follow the line."""
    assert patch.answers in source_of(patch.stands_in or patch.module).read_text(encoding="utf-8")


def test_the_installed_host_still_imports_flash_attn_at_its_top():
    source = source_of("openrlhf.models.ring_attn_utils").read_text(encoding="utf-8")
    assert "\nfrom flash_attn.bert_padding import" in source or "\n    from flash_attn.bert_padding import" in source


@pytest.fixture
def told(run, environment):
    """What a program in an interpreter of its own prints, as JSON; the variable turns the patches on."""

    def start(program: str, variable: str | None) -> dict[str, object]:
        env = environment if variable is None else {**environment, "R1_SEARCHER_CPU": variable}
        done = run([sys.executable, "-W", "ignore", "-c", STATES + program], env=env)
        assert done.status == 0, done.err
        return json.loads(done.out)

    return start


INERT = {"patched": False, "finders": 0, "flash_attn": False, "heavy": []}


@pytest.mark.e2e
@pytest.mark.parametrize("variable", [None, pytest.param("0", marks=pytest.mark.slow)])
def test_without_the_variable_or_with_cuda_nothing_happens(told, variable):
    assert told(INERT_TWICE, variable) == {"unwanted": INERT, "cuda": INERT}


@pytest.mark.e2e
def test_without_cuda_it_patches_and_imports_nothing_for_it(told):
    found = told(PATCHED, "1")
    assert found["wanted"] == {**INERT, "patched": True, "finders": 1, "flash_attn": True}
    assert str(found["flash_attn"]).startswith("packed samples need flash-attn"), "its stand-in says what to do"


def test_a_module_is_patched_although_somebody_asked_for_it_first(monkeypatch):
    """`importlib.util.find_spec`, as many libraries ask for torch."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    host_patch.install([host_patch.HostPatch("colorsys", "", lambda module: setattr(module, "patched", True))])
    assert importlib.util.find_spec("colorsys")
    assert importlib.import_module("colorsys").patched


def test_vllm_finds_the_plugin():
    points = importlib.metadata.entry_points(group="vllm.general_plugins")
    assert "r1_searcher.host.cpu:install" in {point.value for point in points}


def test_a_workers_environment(monkeypatch):
    for name in (
        "OMP_NUM_THREADS",
        "R1_SEARCHER_CPU",
        "DS_ACCELERATOR",
        "TORCH_COMPILE_DISABLE",
        "TORCHDYNAMO_DISABLE",
    ):
        monkeypatch.delenv(name, raising=False)
    cpu = worker_environment(Device.CPU)
    assert cpu["R1_SEARCHER_CPU"] == "1" and cpu["DS_ACCELERATOR"] == "cpu" and cpu["OMP_NUM_THREADS"] == "1"
    assert not {"R1_SEARCHER_CPU", "DS_ACCELERATOR", "OMP_NUM_THREADS"} & set(worker_environment(Device.CUDA))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert worker_environment(Device.CPU)["OMP_NUM_THREADS"] == "7", "what the user has set wins"
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "0")
    assert worker_environment(Device.CPU)["TORCHDYNAMO_DISABLE"] == "0"


def test_torch_reads_what_turns_its_compiler_off():
    (folder,) = importlib.util.find_spec("torch").submodule_search_locations
    source = (Path(folder) / "_dynamo" / "eval_frame.py").read_text(encoding="utf-8")
    assert 'os.environ.get("TORCHDYNAMO_DISABLE", "") == "1"' in source


@pytest.mark.e2e
def test_weights_cross_from_process_to_process():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=take_part, args=(rank, port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in range(4)}
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    assert found == {(rank, f"torch.{dtype}", True) for rank in range(2) for dtype in ("float32", "bfloat16")}


@pytest.mark.slow
def test_a_linear_layer_of_vllm_keeps_its_weight_and_sees_new_ones(run, environment):
    program = (
        "from r1_searcher.host import cpu; cpu.install()\n"
        "import torch, vllm.model_executor.layers.utils as utils\n"
        "layer = torch.nn.Linear(64, 64, bias=False, dtype=torch.bfloat16).requires_grad_(False)\n"
        "utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)\n"
        "assert layer.weight.shape == (64, 64)\n"
        "layer.weight.data.fill_(2.0)\nx = torch.ones(1, 64, dtype=torch.bfloat16)\n"
        "assert (layer.cpu_linear(x, layer.weight, None) == 128).all()\nprint('kept')"
    )
    env = {**environment, "R1_SEARCHER_CPU": "1"}
    done = run([sys.executable, "-c", program], env=env, timeout=200)
    assert done.status == 0 and "kept" in done.out, done.err[-2000:]


def folder_of(path, parameters):
    """A model folder whose weights' header says this many numbers."""
    path.mkdir()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [parameters, 1], "data_offsets": [0, 0]}, "__metadata__": {}})
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    return str(path)


@pytest.mark.parametrize(("cores", "real", "async_real"), [(1, 1, 1), (2, 2, 1), (64, 33, 32)])
def test_a_real_model_gets_the_cores_and_a_tiny_one_a_thread(tmp_path, monkeypatch, cores, real, async_real):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tiny, small = folder_of(tmp_path / "tiny", 600_000), folder_of(tmp_path / "small", 134_515_008)
    assert threads_for(tiny) == threads_for(tiny, at_once=2) == 1
    assert (threads_for(small), threads_for(small, at_once=2)) == (real, async_real)
    assert threads_for("organisation/not-here") == cores
    assert worker_environment(Device.CPU, threads_for(small))["OMP_NUM_THREADS"] == str(real)
