"""Products of bf16 matrices in fp32: the same figures as an instruction for bf16 gives, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from foundation.errors import InputError
from r1_searcher.host import bf16_products, cpu
from r1_searcher.host.device import Device, worker_environment


@pytest.fixture
def widened(monkeypatch):
    """The replaced products, and the original ones again afterwards."""
    functional = torch.nn.functional
    monkeypatch.setattr(functional, "scaled_dot_product_attention", functional.scaled_dot_product_attention)
    monkeypatch.setattr(bf16_products, "registrations", [])
    bf16_products.widen(torch)
    yield
    bf16_products.registrations[0]._destroy()


def matrices(*shapes: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=chance).to(dtype) for shape in shapes]


CALLS = {
    "mm": (lambda a, b: a @ b, [(9, 64), (64, 11)]),
    "transposed": (lambda a, b: a.t() @ b.t(), [(64, 9), (11, 64)]),
    "bmm": (torch.bmm, [(3, 9, 64), (3, 64, 11)]),
    "linear": (linear, [(2, 5, 64), (11, 64)]),
    "linear with bias": (linear, [(2, 5, 64), (11, 64), (11,)]),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), [(9, 11), (9, 64), (64, 11)]),
    "baddbmm": (lambda c, a, b: torch.baddbmm(c, a, b, beta=0.5, alpha=2), [(3, 9, 11), (3, 9, 64), (3, 64, 11)]),
    "attention": (
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        [(2, 4, 16, 32)] * 3,
    ),
    "attention with a mask": (
        lambda q, k, v, m: torch.nn.functional.scaled_dot_product_attention(q, k, v, m),
        [(2, 4, 16, 32), (2, 4, 16, 32), (2, 4, 16, 32), (2, 1, 16, 16)],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_value_and_gradients_are_the_exact_ones_rounded_once(widened, name):
    call, shapes = CALLS[name]
    narrow = [each.requires_grad_() for each in matrices(*shapes)]
    exact = [each.detach().double().requires_grad_() for each in narrow]
    value, right = call(*narrow), call(*exact)
    assert value.dtype is torch.bfloat16
    # Half a unit in the last of bf16's eight bits, and what fp32's own rounding can tip over.
    torch.testing.assert_close(value.double(), right, rtol=2**-8, atol=1e-4)
    value.sum().backward()
    right.sum().backward()
    for each, wanted in zip(narrow, exact, strict=True):
        assert each.grad.dtype is torch.bfloat16
        torch.testing.assert_close(each.grad.double(), wanted.grad, rtol=2**-6, atol=2e-2)


@pytest.mark.parametrize("rows", [1, bf16_products.FEW_ROWS - 1, bf16_products.FEW_ROWS])
def test_a_few_rows_are_multiplied_as_they_are(monkeypatch, request, rows):
    a, b = matrices((rows, 64), (64, 11))
    native = a @ b
    request.getfixturevalue("widened")
    widened: list[torch.dtype] = []
    as_float = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: widened.append(tensor.dtype) or as_float(tensor))
    value = a @ b
    assert bool(widened) is (rows >= bf16_products.FEW_ROWS)
    assert torch.equal(value, native) or widened


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_other_types_are_multiplied_as_before(widened, dtype):
    a, b = matrices((5, 64), (64, 7), dtype=dtype)
    assert torch.equal(a @ b, (a.double() @ b.double()).to(dtype)) or torch.allclose(
        (a @ b).double(), a.double() @ b.double(), rtol=1e-5, atol=1e-4
    )
    assert (a @ b).dtype is dtype


def test_a_second_time_changes_nothing(widened):
    attention = torch.nn.functional.scaled_dot_product_attention
    bf16_products.widen(torch)
    assert torch.nn.functional.scaled_dot_product_attention is attention and len(bf16_products.registrations) == 1


@pytest.mark.parametrize(("seconds", "chosen"), [((9.0, 1.0), "fp32"), ((0.5, 1.0), "bf16"), ((1.9, 1.0), "bf16")])
def test_the_faster_way_is_chosen_and_said(monkeypatch, caplog, seconds, chosen):
    monkeypatch.delenv(bf16_products.VARIABLE, raising=False)
    bf16_products.choose.cache_clear()
    measured = iter(seconds)
    monkeypatch.setattr(bf16_products, "fastest", lambda product: next(measured))
    with caplog.at_level("INFO"):
        assert worker_environment(Device.CPU)[bf16_products.VARIABLE] == chosen
    assert caplog.messages == (
        ["bf16 matrices are multiplied in fp32: this processor is 9 times slower at bf16"] if chosen == "fp32" else []
    )
    bf16_products.choose.cache_clear()


def test_this_machine_is_measured_without_changing_its_threads(monkeypatch):
    monkeypatch.delenv(bf16_products.VARIABLE, raising=False)
    bf16_products.choose.cache_clear()
    threads = torch.get_num_threads()
    assert bf16_products.choose() in ("bf16", "fp32")
    assert torch.get_num_threads() == threads
    bf16_products.choose.cache_clear()


def test_what_cannot_be_meant_is_refused(monkeypatch):
    monkeypatch.setenv(bf16_products.VARIABLE, "FP32")
    with pytest.raises(InputError, match="must be fp32 or bf16, found 'FP32'"):
        bf16_products.choose.__wrapped__()


def test_what_the_user_sets_wins(monkeypatch):
    monkeypatch.setenv(bf16_products.VARIABLE, "bf16")
    bf16_products.choose.cache_clear()
    monkeypatch.setattr(bf16_products, "fastest", lambda product: pytest.fail("nothing is to be measured"))
    assert worker_environment(Device.CPU)[bf16_products.VARIABLE] == "bf16"
    bf16_products.choose.cache_clear()


@pytest.mark.parametrize(("products", "asked", "held"), [
    ("fp32", "bfloat16", "float32"),
    ("fp32", "auto", "float32"),
        ("fp32", "float16", "float16"),
    ("bf16", "bfloat16", "bfloat16"),
])  # fmt: skip
def test_engines_hold_wide_weights_where_products_are_wide(monkeypatch, products, asked, held):
    monkeypatch.setenv(bf16_products.VARIABLE, products)
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)

    @dataclass
    class EngineArgs:
        dtype: str

        def create_model_config(self):
            return self.dtype

    (patch,) = (patch for patch in cpu.PATCHES if patch.module == "vllm.engine.arg_utils")
    patch.apply(SimpleNamespace(EngineArgs=EngineArgs))
    assert EngineArgs(asked).create_model_config() == held
    bf16_products.choose.cache_clear()
    room = worker_environment(Device.CPU)["VLLM_CPU_KVCACHE_SPACE"]
    bf16_products.choose.cache_clear()
    assert room == ("2" if products == "fp32" else "1"), "the same number of tokens"
