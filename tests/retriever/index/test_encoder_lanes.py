"""Forward passes side by side: order, shared weights, many callers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from retriever.index.encoder_lanes import MAX_LANES, Lanes


class Meter(torch.nn.Module):
    """Measures a text; remembers who was measuring at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.at_work: list[int] = []

    def forward(self, texts: list[str]) -> np.ndarray:
        self.at_work.append(threading.get_ident())
        assert len(set(self.at_work)) == 1, "two threads in one copy"
        lengths = torch.tensor([[len(text), int(text or 0)] for text in texts], dtype=torch.float32)
        vectors = (lengths * self.weight).detach().numpy()
        self.at_work.clear()
        return vectors


@pytest.fixture
def model() -> Meter:
    return Meter()


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def lanes_of(model: Meter, **settings) -> Lanes:
    return Lanes(model, lambda copy, texts: copy(texts), lengths, **({"batch_size": 4, "processors": 3} | settings))


def test_results_stand_in_the_order_of_the_texts(model):
    texts = [str(10 ** (i % 5) + i) for i in range(37)]
    vectors = lanes_of(model).encode(texts)
    assert vectors.tolist() == [[len(text), int(text)] for text in texts]


def test_texts_of_like_length_share_a_pass(model):
    passes = []

    def encode(copy, texts):
        passes.append([len(text) for text in texts])
        return copy(texts)

    Lanes(model, encode, lengths, batch_size=2, processors=1).encode(["1", "1000", "10", "1", "1000", "100"])
    assert sorted(passes) == [[1, 1], [3, 2], [4, 4]]


def test_what_fits_into_one_pass_is_not_measured(model):
    def measure(texts):
        raise AssertionError(texts)

    lanes = Lanes(model, lambda copy, texts: copy(texts), measure, batch_size=2, processors=1)
    assert lanes.encode(["10", "1"]).tolist() == [[2, 10], [1, 1]]
    with pytest.raises(AssertionError):
        lanes.encode(["1", "2", "3"])


def test_many_callers(model):
    lanes = lanes_of(model)
    asked = [[str(100 * number + i) for i in range(number % 9 + 1)] for number in range(60)]
    with ThreadPoolExecutor(16) as callers:
        found = list(callers.map(lanes.encode, asked))
    assert [vectors[:, 1].tolist() for vectors in found] == [[int(text) for text in texts] for texts in asked]


def test_weights_are_shared_and_lanes_are_few(model):
    copies, together = [], threading.Barrier(MAX_LANES)

    def encode(copy, texts):
        copies.append(copy)
        together.wait(10)  # so that every lane is at work at the same time
        return copy(texts)

    Lanes(model, encode, lengths, batch_size=1, processors=64).encode(["1"] * MAX_LANES)
    assert len(set(map(id, copies))) == MAX_LANES
    assert all(each is not model and each.weight is model.weight for each in copies)


def test_an_error_reaches_its_caller_and_no_other(model):
    lanes = lanes_of(model)
    with pytest.raises(ValueError, match="invalid literal"):
        lanes.encode(["1", "one"])
    for _ in range(5):  # no copy was lost
        assert lanes.encode(["7"]).tolist() == [[1, 7]]


@pytest.mark.parametrize(("variable", "lanes"), [("1", 1), ("3", 3), ("2,1", 2), ("100", MAX_LANES)])
def test_openmp_says_how_many_processors(model, monkeypatch, variable, lanes):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert len(lanes_of(model, processors=None)) == lanes
