"""What an index will cost: small samples are built here and now, and their sizes and times extrapolated."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.embeddings import SHARD_SIZE
from retriever.faiss_vectors import FaissVectors

_FLOAT_BYTES = 4
_FIRST_TRAINING = 10_240
"""FAISS warns of less than 39 vectors for each of a product quantizer's 256 centroids."""
_FIRST_PER_LIST = 4
_LARGER = 4
"""Times the last sample is the next one of training."""
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
    """Of a product quantizer's training, whose many small k-means take most of their time for any sample."""
    train_s_per_vector: float
    """What each vector of the sample adds: k-means takes a fixed number of rounds."""
    add_s_per_vector: float
    """Into an index of `first_size`."""
    add_s_per_log: float
    """What is added to it each time the index grows e-fold: graphs are slower to extend the larger they are."""
    first_size: float
    """Size of the index at the first measurement that counts."""
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
    index, fixed_s, training_s = empty, 0.0, 0.0
    if training:
        index, fixed_s, training_s = _measure_training(factory, vectors, min(training, count), budget_s)
    small = _written_size(index)
    pieces = _measure_adding(index, vectors, budget_s)
    steady = pieces[1:] or pieces  # the first one pays for what a library does once
    middles, per_vector = [piece.middle for piece in steady], [piece.seconds / piece.count for piece in steady]
    first, log_slope = float(np.average(per_vector, weights=[piece.count for piece in steady])), 0.0
    if "HNSW" in factory and "IVF" not in factory and len(steady) > 1:
        log_slope, first = np.polyfit(np.log(np.array(middles) / middles[0]), per_vector, 1)
    growing = (_written_size(index) - small) / len(index)
    grows = max(float(log_slope), 0.0)
    return Costs(factory, dim, training, fixed_s, training_s, float(first), grows, middles[0], small, growing)


def _measure_training(
    factory: str, vectors: NDArray[np.float32], wanted: int, budget_s: float
) -> tuple[FaissVectors, float, float]:
    """A trained index, fixed seconds, and seconds per vector: of the two largest samples that the budget allows."""
    first = max(_FIRST_TRAINING, _FIRST_PER_LIST * FaissVectors.new(vectors.shape[1], factory).lists)
    most = min(wanted, len(vectors))
    size, measured = min(first, most), list[tuple[int, float]]()
    while True:
        index = FaissVectors.new(vectors.shape[1], factory)
        measured.append((size, _seconds(partial(index.train, vectors[:size]))))
        larger = min(_LARGER * size, most)
        next_s, spent = _LARGER * measured[-1][1], sum(seconds for _, seconds in measured)
        if larger == size or (len(measured) > 1 and spent + next_s > budget_s):
            return index, *line_through(measured[-2:])
        size = larger


def line_through(measured: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds at size 0 and seconds per vector, both at least 0, through one or two measurements."""
    (size, seconds), (larger, more) = measured[0], measured[-1]
    slope = max((more - seconds) / (larger - size), 0.0) if larger > size else more / larger
    fixed = max(more - slope * larger, 0.0)
    return fixed, (more - fixed) / larger


@dataclass(frozen=True, slots=True)
class _Piece:
    """Vectors that were added at once, to an index of `start`."""

    start: int
    stop: int
    seconds: float

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def middle(self) -> float:
        """The size whose logarithm is the mean of those that the index went through."""
        grown = self.stop * math.log(self.stop) - (self.start * math.log(self.start) if self.start else 0.0)
        return math.exp(grown / self.count - 1)


def _measure_adding(index: FaissVectors, vectors: NDArray[np.float32], budget_s: float) -> list[_Piece]:
    """Fill the index with pieces that double it."""
    pieces: list[_Piece] = []
    stop = min(_FIRST_ADDING, len(vectors))
    while True:
        start = len(index)
        pieces.append(_Piece(start, stop, _seconds(partial(index.add, vectors[start:stop]))))
        spent = sum(piece.seconds for piece in pieces)
        if stop == len(vectors) or spent + 2 * pieces[-1].seconds > budget_s:
            return pieces
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
