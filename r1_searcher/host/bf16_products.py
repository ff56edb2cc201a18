"""Products of bf16 matrices on processors that do not multiply bf16.

Models are bf16 in engine and trainer, since OpenRLHF's `--ds.param_dtype` knows no fp32. On a processor without AMX or
AVX512-BF16 PyTorch multiplies bf16 in a plain loop of its own (`gemm_transb_impl` in aten/src/ATen/native/cpu/
BlasKernel.cpp), which is many times slower than MKL's product of fp32. There the inputs are widened to fp32, multiplied
and rounded once. That is what an instruction for bf16 gives, too: exact products, summed in fp32, rounded at the end.
Weights, gradients and everything between the products stay bf16 in the trainer; an engine's weights are fp32 then
(`cpu.py`).
"""

from __future__ import annotations

import functools
import logging
import os
import time
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook

from foundation.errors import InputError

logger = logging.getLogger(__name__)

VARIABLE, VALUES = "R1_SEARCHER_BF16_PRODUCTS", ("fp32", "bf16")
"""How the processes of a run without CUDA multiply bf16 matrices. What the user sets wins."""
FEW_ROWS = 8
"""Fewer rows than these are multiplied as they are: to widen a whole weight, a head's of 49,152 rows above all, takes
longer than the slow loop needs for a few tokens, which is what an engine decodes at a time."""
_ROWS, _WIDTH = 256, 128
_REPEATS = 5
_MUCH_SLOWER = 2.0
"""Native bf16 is up to twice as fast as fp32, the plain loop eight times slower or worse: nothing lies between."""

registrations: list[Any] = []
"""Of this process's products; each ends with its object."""


@functools.cache
def choose() -> str:
    """`VARIABLE`'s value for this machine, by measuring one small product both ways; says what it found.

    Where `ONEDNN_MAX_CPU_ISA` hides instructions, the measurement sees what is left.
    """
    if chosen := os.environ.get(VARIABLE):
        if chosen not in VALUES:
            raise InputError(f"{VARIABLE} must be {' or '.join(VALUES)}, found {chosen!r}")
        return chosen
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wide = torch.randn(_ROWS, _WIDTH), torch.randn(_WIDTH, _WIDTH)
        narrow = tuple(matrix.to(torch.bfloat16) for matrix in wide)
        ratio = fastest(lambda: narrow[0] @ narrow[1]) / fastest(lambda: wide[0] @ wide[1])
    finally:
        torch.set_num_threads(threads)
    if ratio <= _MUCH_SLOWER:
        return "bf16"
    logger.info("bf16 matrices are multiplied in fp32: this processor is %.0f times slower at bf16", ratio)
    return "fp32"


def install() -> None:
    """Have this process multiply as `VARIABLE` says, once torch is imported; imports nothing itself."""
    if os.environ.get(VARIABLE) == "fp32":
        register_post_import_hook(widen, "torch")


def widen(torch: ModuleType) -> None:
    """Replace the products of matrices and the attention of this process; other types are computed as before."""
    if registrations:
        return
    library = torch.library.Library("aten", "IMPL")
    registrations.append(library)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel")
        for name, product in _products(torch).items():
            library.impl(name, product, "CPU")
    functional = torch.nn.functional
    functional.scaled_dot_product_attention = _widened_attention(torch, functional.scaled_dot_product_attention)


def fastest(product: Callable[[], Any]) -> float:
    """Seconds that a product takes at its best."""
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        product()
        times.append(time.perf_counter() - started)
    return min(times)


def _products(torch: ModuleType) -> dict[str, Callable[..., Any]]:
    """By operator. Each computes by the operator's other form, which writes into a given tensor: it is not replaced."""
    aten, bf16 = torch.ops.aten, torch.bfloat16

    def into(form: Any, like: Any, shape: tuple[int, ...], *inputs: Any, **factors: Any) -> Any:
        if like.dtype is not bf16 or like.shape[-2] < FEW_ROWS:
            return form(*inputs, **factors, out=like.new_empty(shape))
        wide = like.new_empty(shape, dtype=torch.float32)
        return form(*(each.float() for each in inputs), **factors, out=wide).to(bf16)

    def mm(a: Any, b: Any) -> Any:
        return into(aten.mm.out, a, (a.shape[0], b.shape[1]), a, b)

    def bmm(a: Any, b: Any) -> Any:
        return into(aten.bmm.out, a, (*a.shape[:2], b.shape[2]), a, b)

    def addmm(added: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
        return into(aten.addmm.out, a, (a.shape[0], b.shape[1]), added, a, b, beta=beta, alpha=alpha)

    def baddbmm(added: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
        return into(aten.baddbmm.out, a, (*a.shape[:2], b.shape[2]), added, a, b, beta=beta, alpha=alpha)

    return {"mm": mm, "bmm": bmm, "addmm": addmm, "baddbmm": baddbmm}


def _widened_attention(torch: ModuleType, attention: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(attention)
    def widened(query: Any, key: Any, value: Any, attn_mask: Any = None, *further: Any, **options: Any) -> Any:
        if query.dtype is not torch.bfloat16 or query.device.type != "cpu":
            return attention(query, key, value, attn_mask, *further, **options)
        if attn_mask is not None and attn_mask.dtype is torch.bfloat16:
            attn_mask = attn_mask.float()
        wide = attention(query.float(), key.float(), value.float(), attn_mask, *further, **options)
        return wide.to(torch.bfloat16)

    return widened
