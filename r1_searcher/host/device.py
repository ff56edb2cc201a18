"""Detects CUDA, and says what a process needs where there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from foundation.workers import cores
from r1_searcher.host import bf16_products
from r1_searcher.host.cpu import CPU_VARIABLE
from r1_searcher.memory.fit import Cards
from r1_searcher.run.weights import count_parameters

PARAMETERS_OF_A_THREAD = 4_000_000
"""Parameters that keep a thread busy: the tiny world's models get one thread, a model of 135 M gets 33 at most."""


class Device(str, Enum):
    """The device of a run."""

    CUDA = "cuda"
    CPU = "cpu"


def detect() -> tuple[Device, int]:
    """The device and how many there are (1 for the CPU)."""
    import torch

    if torch.cuda.is_available():
        return Device.CUDA, torch.cuda.device_count()
    return Device.CPU, 1


@dataclass(frozen=True)
class Placement:
    """Which GPUs of this machine a run takes, and which it leaves to what is served beside it."""

    taken: tuple[str, ...]
    """As `CUDA_VISIBLE_DEVICES` names them."""
    left: tuple[str, ...]

    @classmethod
    def of(cls, gpus: int, devices: int, visible: str | None) -> Placement:
        """The first of the visible GPUs.

        Args:
            gpus: that the run asks for.
            devices: that torch sees.
            visible: `CUDA_VISIBLE_DEVICES` of this process.
        """
        named = [each.strip() for each in visible.split(",")] if visible else [str(each) for each in range(devices)]
        return cls(tuple(named[:gpus]), tuple(named[gpus:devices]))

    def __str__(self) -> str:
        """One line for the user."""
        taken = f"training takes {len(self.taken)} GPU(s): CUDA_VISIBLE_DEVICES={','.join(self.taken)}"
        if self.left:
            return f"{taken}; left for retriever, simulator and judge: CUDA_VISIBLE_DEVICES={','.join(self.left)}"
        return f"{taken}; none is left: retriever, simulator and judge run on processors or on other machines"


def cards() -> Cards:
    """The GPUs of this machine; the smallest stands for all of them. Only where there is one."""
    import torch

    count = torch.cuda.device_count()
    return Cards(count, min(torch.cuda.get_device_properties(number).total_memory for number in range(count)))


def threads_for(model: str, at_once: int = 1) -> int:
    """Threads of each process that computes with this model on CPUs.

    In synchronous training engine and trainer take turns, so each may have every core; those that work at the same
    time share them. A model of less than a few million parameters loses more by the threads' meetings than it gains.

    Args:
        model: a folder, or a name of the hub, whose model is not here yet and taken for a large one.
        at_once: processes that work at the same time: engine and trainer in asynchronous training, several engines.
    """
    parameters = count_parameters(model)
    most = parameters // PARAMETERS_OF_A_THREAD if parameters else cores()
    return max(1, min(cores() // at_once, most))


def worker_environment(device: Device, threads: int = 1) -> dict[str, str]:
    """Environment variables of every process of a run; what the user has set wins.

    Args:
        threads: of each process on CPUs, see `threads_for`.
    """
    wanted = {"TOKENIZERS_PARALLELISM": "true", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if device is Device.CUDA:
        wanted |= {
            # As in OpenRLHF's own `ray.init`: tensors are read where they lie in Ray's store. Nobody may write into
            # them there; without a GPU to copy them to, the trainer would.
            "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
            # DeepSpeed compiles its optimizer for RAM (--ds.adam_offload) at run time, and not with a CUDA compiler of
            # another minor version than torch's. The set-up refuses those of another major version.
            "DS_SKIP_CUDA_CHECK": "1",
        }
    else:
        products = bf16_products.choose()
        wanted |= {
            CPU_VARIABLE: "1",
            "DS_ACCELERATOR": "cpu",
            # Several busy-waiting thread pools on few cores: with the defaults the tiny world's engine gives 140
            # instead of 3,700 tokens/s. A model of 135 M parameters on two cores reads 116 tokens/s in the update with
            # two threads and 57 with one (docs/results/real_model.md).
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "2" if products == "fp32" else "1",  # GiB; fp32 takes twice the room
            # vLLM compiles its sampler at the first request: 10 s that a run on few cores does not earn back.
            "TORCH_COMPILE_DISABLE": "1",
            # Says the same to `torch.compile` itself (torch/_dynamo/eval_frame.py), which then leaves functions as they
            # are. DeepSpeed gives it some when it is imported, and each process would load the whole compiler for them.
            "TORCHDYNAMO_DISABLE": os.environ.get("TORCH_COMPILE_DISABLE", "1"),
            # Without this the core of vLLM's engine starts its one worker as a process of its own on CPUs, which
            # imports everything once more and gets every batch, and gives every token, through shared memory.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            bf16_products.VARIABLE: products,
        }
    return {key: os.environ.get(key, value) for key, value in wanted.items()}
