"""Detects CUDA, and says what a process needs where there is none."""

from __future__ import annotations

import os
from enum import Enum

from r1_searcher.host.cpu import ENVIRONMENT_VARIABLE


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


def worker_environment(device: Device) -> dict[str, str]:
    """Environment variables of every process of a run; what the user has set wins."""
    wanted = {"TOKENIZERS_PARALLELISM": "true", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if device is Device.CPU:
        wanted |= {
            ENVIRONMENT_VARIABLE: "1",
            "DS_ACCELERATOR": "cpu",
            # Several busy-waiting thread pools on few cores: 140 instead of 3,700 tokens/s with the defaults.
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            # vLLM compiles its sampler at the first request: 10 s that a run on few cores does not earn back.
            "TORCH_COMPILE_DISABLE": "1",
        }
    return {key: os.environ.get(key, value) for key, value in wanted.items()}
