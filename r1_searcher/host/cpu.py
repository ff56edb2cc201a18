"""OpenRLHF 0.11.2 and vLLM on a machine without CUDA: patches of other packages.

Patches for every machine stand elsewhere (`worker.py` lists them).

The launcher sets `CPU_VARIABLE` where there is no CUDA. Ray runs `install` in every worker
(`worker.prepare`), vLLM in its engine and worker processes (entry point `vllm.general_plugins`), the
launcher calls it for itself. Without the variable, or with CUDA present, it does nothing at all.

Each patch names the line of the host that it answers; a test fails when that line is gone. A patch is applied
right after its module is imported, so that the patch itself imports nothing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from types import ModuleType
from typing import Any

from r1_searcher.host import bf16_products
from r1_searcher.host.patches import host_patch
from r1_searcher.host.patches.host_patch import HostPatch

CPU_VARIABLE = "R1_SEARCHER_CPU"
"""`1` in every process of a run on a machine without CUDA."""


def install() -> None:
    """Patch this process, if it belongs to a run without CUDA. Calling it again changes nothing."""
    if os.environ.get(CPU_VARIABLE) != "1" or getattr(install, "done", False) or cuda_is_here():
        return
    install.done = True  # type: ignore[attr-defined]
    if importlib.util.find_spec("flash_attn") is None:
        _stand_in_for_flash_attn()
    host_patch.install([replace(patch, apply=_without_cuda(patch.apply)) for patch in PATCHES])
    bf16_products.install()


def cuda_is_here() -> bool:
    """Whether there is CUDA: as torch says, where it is imported already; to import it costs every worker seconds."""
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    return os.path.exists("/proc/driver/nvidia/version")


def _without_cuda(apply: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def guarded(module: ModuleType) -> None:
        import torch

        if not torch.cuda.is_available():
            apply(module)

    return guarded


def _stand_in_for_flash_attn() -> None:
    """A `flash_attn` with the padding functions that OpenRLHF imports at its top; they are used by packing only.

    `openrlhf.models.ring_attn_utils`: `from flash_attn.bert_padding import ... pad_input, ... unpad_input`.
    The code is reached with packing, which needs flash attention itself, hence CUDA.
    """

    def needs_cuda(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("packed samples need flash-attn and a GPU; leave out --ds.packing_samples")

    names = {
        "flash_attn": (),
        "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
        "flash_attn.utils": (),
        "flash_attn.utils.distributed": ("all_gather",),
    }
    for name, functions in names.items():
        module = ModuleType(name, "Stand-in where flash-attn is not installed.")
        module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None, is_package=True)
        module.__path__ = []
        for function in functions:
            setattr(module, function, needs_cuda)
        sys.modules[name] = module


def _patch_torch_cuda(torch: ModuleType) -> None:
    """`current_device` names the CPU, a device that `Tensor.to` takes; the rest has nothing to do."""
    for name in ("synchronize", "empty_cache", "set_device", "current_stream"):
        setattr(torch.cuda, name, lambda *_args, **_kwargs: None)
    torch.cuda.current_device = lambda: "cpu"


def _patch_replay_buffer(module: ModuleType) -> None:
    """The module's own `torch`, with a `device` that is always the CPU."""
    import torch

    class TorchOnCPU(ModuleType):
        device = staticmethod(lambda *_args: torch.device("cpu"))

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    module.torch = TorchOnCPU("torch")  # type: ignore[attr-defined]


def _patch_device_mesh(module: ModuleType) -> None:
    make_mesh = module.init_device_mesh
    module.init_device_mesh = lambda _device, *args, **kwargs: make_mesh("cpu", *args, **kwargs)  # type: ignore[attr-defined]


class GlooWeights:
    """Trainer-to-engine broadcast over gloo, behind the two methods of vLLM's communicator that OpenRLHF uses."""

    def __init__(self, host: str, port: int, rank: int, world_size: int) -> None:
        import torch.distributed as dist

        timeout = timedelta(minutes=10)
        store = dist.TCPStore(host, port, world_size, is_master=rank == 0, timeout=timeout)
        self._group = dist.ProcessGroupGloo(dist.PrefixStore("weights", store), rank, world_size, timeout)

    def broadcast(self, tensor: Any, src: int, stream: object = None) -> None:
        """Fill `tensor` on every rank with the one of rank `src`."""
        import torch.distributed as dist

        options = dist.BroadcastOptions()
        options.rootRank = src
        options.rootTensor = 0
        self._group.broadcast([tensor], options).wait()


def _patch_weight_group(module: ModuleType) -> None:
    def stateless_init_process_group(host: str, port: int, rank: int, world_size: int, device: Any) -> GlooWeights:
        return GlooWeights(host, port, rank, world_size)

    module.stateless_init_process_group = stateless_init_process_group  # type: ignore[attr-defined]


def _patch_worker_wrap(module: ModuleType) -> None:
    def update_weight(self: Any, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> None:
        import torch

        weight = torch.empty(shape, dtype=dtype)
        self._model_update_group.broadcast(weight, src=0)
        self.model_runner.model.load_weights(weights=[(name, weight)])

    module.WorkerWrap.update_weight = update_weight


def _patch_cpu_linear(module: ModuleType) -> None:
    """Keep a linear layer's weight, and compute with it as it is at the time of the call.

    vLLM packs the weight once and replaces the parameter by an empty one, or (tied head) continues with its packed
    copy: a later `load_weights` would fail, or change nothing.
    """
    import torch

    def dispatch_cpu_unquantized_gemm(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    module.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm  # type: ignore[attr-defined]


def _patch_engine_dtype(module: ModuleType) -> None:
    """Where products of bf16 are computed in fp32, an engine holds its weights in fp32.

    A trainer widens a weight for a thousand tokens, an engine would for every token of some dozen episodes. Weights
    that the trainer sends are widened on arrival, which loses nothing.

    vLLM's own server loads this as a plugin while its arguments are being made, and makes its configuration afterwards.
    """
    if os.environ.get(bf16_products.VARIABLE) != "fp32":
        return
    create_model_config = module.EngineArgs.create_model_config

    @wraps(create_model_config)
    def widened(self: Any) -> Any:
        if self.dtype in ("bfloat16", "auto"):  # what a server takes where nothing is said
            self.dtype = "float32"
        return create_model_config(self)

    module.EngineArgs.create_model_config = widened


PATCHES: tuple[HostPatch, ...] = (
    HostPatch("vllm.engine.arg_utils", '"dtype": "bfloat16",', _patch_engine_dtype, "openrlhf.trainer.ray.vllm_engine"),
    HostPatch("torch", "device = torch.cuda.current_device()", _patch_torch_cuda, "openrlhf.trainer.ray.ppo_actor"),
    HostPatch(
        "openrlhf.trainer.ppo_utils.replay_buffer",
        'self.target_device = torch.device(f"cuda:{torch.cuda.current_device()}")',
        _patch_replay_buffer,
    ),
    HostPatch(
        "openrlhf.utils.deepspeed.deepspeed",
        '"cuda", (dp_size, self.ring_attn_size, self.ds_tensor_parallel_size)',
        _patch_device_mesh,
    ),
    HostPatch(
        "openrlhf.utils.distributed_util",
        "pynccl = PyNcclCommunicator(pg, device=device)",
        _patch_weight_group,
    ),
    HostPatch(
        "openrlhf.trainer.ray.vllm_worker_wrap",
        'weight = torch.empty(shape, dtype=dtype, device="cuda")',
        _patch_worker_wrap,
    ),
    HostPatch(
        "vllm.model_executor.layers.utils",
        "layer.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)",
        _patch_cpu_linear,
    ),
)
