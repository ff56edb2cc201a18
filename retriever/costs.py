"""What an index will cost: small samples are built here and now, and their sizes and times extrapolated."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.embeddings import SHARD_SIZE
from retriever.faiss_vectors import FaissVectors

_FLOAT_BYTES = 4
_FIRST_TRAINING = 10_240
"""FAISS warns of less than 39 vectors for each of a product quantizer's 256 centroids."""
_FIRST_PER_LIST = 4
_FIRST_ADDING = 4_096
_MOST_SAMPLED = 262_144
"""Vectors of a sample at most; with 768 dimensions they take 0.8 GB."""
_CLUSTER = 200
"""Vectors around one centre, as passages around a topic."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the samples of one factory said."""

    factory: str
    dim: int
    training_size: int
    """Vectors that training takes, from a corpus that has as many."""
    train_s_fixed: float
    train_s_per_vector: float
    add_s_per_vector: float
    """At the smallest sample."""
    add_s_per_log: float
    """What is added to it each time the index grows e-fold: graphs are slower to extend the larger they are."""
    first_size: int
    """Size of the smallest sample."""
    bytes_fixed: float
    bytes_per_vector: float

    def train_s(self, count: int) -> float:
        """Seconds to train on a corpus of `count`."""
        size = min(self.training_size, count)
        return self.train_s_fixed + size * self.train_s_per_vector if size else 0.0

    def add_s(self, count: int) -> float:
        """Seconds to add `count` vectors: the cost per vector, integrated over the size of the index."""
        growth = max(math.log(count / self.first_size) - 1, 0.0)
        return count * (self.add_s_per_vector + self.add_s_per_log * growth)

    def index_bytes(self, count: int) -> float:
        """Size of the written index; the same in memory, once searches have touched all of it."""
        return self.bytes_fixed + count * self.bytes_per_vector

    def build_bytes(self, count: int) -> float:
        """Most memory while building: the index and a shard, or the training sample."""
        vector = self.dim * _FLOAT_BYTES
        sample = min(self.training_size, count) * vector
        return max(self.index_bytes(count) + min(SHARD_SIZE, count) * vector, 2 * sample)


def sample_vectors(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Random vectors of length 1 in clusters, float32 [count, dim]: what encoders give is not spread evenly."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((max(count // _CLUSTER, 1), dim), dtype=np.float32)
    vectors = draw.standard_normal((count, dim), dtype=np.float32)
    vectors += 1.5 * centres[draw.integers(len(centres), size=count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def measure_index(factory: str, dim: int, count: int, *, budget_s: float = 20.0) -> Costs:
    """Train and fill samples of growing size, for about `budget_s` seconds each, on this machine as it is now.

    Args:
        count: passages of the corpus that is planned; a smaller sample is never exceeded.

    Raises:
        VectorsError: faiss does not know the factory, or `count` vectors cannot train it.
    """
    vectors = sample_vectors(min(count, _MOST_SAMPLED), dim)
    empty = FaissVectors.new(dim, factory)
    training = empty.training_size
    index, fixed, slope = empty, 0.0, 0.0
    if training:
        index, fixed, slope = _measure_training(factory, vectors, min(training, count), budget_s)
    small = _written_size(index)
    sizes, per_vector = _measure_adding(index, vectors, budget_s)
    first, log_slope = per_vector[0], 0.0
    if "HNSW" in factory and "IVF" not in factory and len(sizes) > 2:
        log_slope, first = np.polyfit(np.log(np.array(sizes) / sizes[0]), per_vector, 1)
    elif len(per_vector) > 1:
        first = float(np.mean(per_vector[1:]))
    growing = (_written_size(index) - small) / len(index)
    return Costs(
        factory, dim, training, fixed, slope, float(first), max(float(log_slope), 0.0), sizes[0], small, growing
    )


def _measure_training(
    factory: str, vectors: NDArray[np.float32], wanted: int, budget_s: float
) -> tuple[FaissVectors, float, float]:
    """A trained index, and seconds: fixed, and for each training vector."""
    first = max(_FIRST_TRAINING, _FIRST_PER_LIST * FaissVectors.new(vectors.shape[1], factory).lists)
    size, times = min(first, wanted, len(vectors)), []
    while True:
        index = FaissVectors.new(vectors.shape[1], factory)
        times.append((size, _seconds(lambda index=index, size=size: index.train(vectors[:size]))))  # type: ignore[misc]
        larger = min(2 * size, wanted, len(vectors))
        if larger == size or sum(spent for _, spent in times) + 2 * times[-1][1] > budget_s:
            break
        size = larger
    if len(times) == 1:
        return index, 0.0, times[0][1] / times[0][0]
    (small, fast), (large, slow) = times[-2:]
    slope = max((slow - fast) / (large - small), 0.0)
    return index, max(slow - slope * large, 0.0), slope


def _measure_adding(
    index: FaissVectors, vectors: NDArray[np.float32], budget_s: float
) -> tuple[list[int], list[float]]:
    """Sizes of the index, and seconds that each of the vectors took to reach them."""
    sizes, per_vector, spent = [], [], 0.0
    stop = min(_FIRST_ADDING, len(vectors))
    while True:
        piece = vectors[len(index) : stop]
        seconds = _seconds(lambda piece=piece: index.add(piece))  # type: ignore[misc]
        sizes.append(stop)
        per_vector.append(seconds / len(piece))
        spent += seconds
        if stop == len(vectors) or spent + 2 * seconds > budget_s:
            return sizes, per_vector
        stop = min(2 * stop, len(vectors))


def _written_size(index: FaissVectors) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.faiss"
        index.write(path)
        return path.stat().st_size


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
