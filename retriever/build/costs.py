"""The cost of an index: small samples are built, and their sizes and times extrapolated."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.build.embeddings import SHARD_SIZE
from retriever.index.faiss_vectors import FaissVectors, SearchSettings

_FLOAT_BYTES = 4
_FIRST_TRAINING = 10_240
"""FAISS warns of less than 39 vectors for each of a product quantizer's 256 centroids."""
_FIRST_PER_LIST = 4
_LARGER = 4
"""Times the last sample is the next one of training."""
_FIRST_ADDING = 4_096
MOST_SAMPLED = 262_144
"""Vectors of a sample at most; with 768 dimensions they take 0.8 GB."""
_MOST_ADDED_BYTES = 2 << 30
"""Size of an index of samples at most."""
_FILLS = 5
"""Samples of an index that is filled in no time, of which the fastest counts: memory that the machine has not touched
yet is several times slower, and says nothing of the index."""
SEARCHED = 128
"""Queries of a batch, the server's largest."""
_TOP_K = 5
_SEARCHES = 3
"""Batches, of which the fastest counts: the others tell how busy the machine was."""
_CLUSTER = 200
"""Vectors around one centre, as passages around a topic."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one factory, from its samples."""

    factory: str
    dim: int
    training_size: int
    """Vectors that training takes, from a corpus that has as many."""
    train_s_fixed: float
    """Of a product quantizer's training, whose many small k-means take most of their time for any sample."""
    train_s_per_vector: float
    """What each vector of the sample adds: k-means takes a fixed number of rounds."""
    add_s_per_vector: float
    """The same at every size: even HNSW's took no longer at a million vectors than at 16 thousand."""
    bytes_fixed: float
    bytes_per_vector: float
    search_s_fixed: float = 0.0
    """Of a batch of `SEARCHED` queries on this machine, whatever the size of the index: the lists' centres."""
    search_s_per_vector: float = 0.0
    """What each vector of the index adds. A graph is walked in steps that grow with the logarithm only; its time is
    that of the sample, as `search_s_fixed`, and a lower bound."""

    def train_s(self, count: int) -> float:
        """Seconds to train on a corpus of `count`."""
        size = min(self.training_size, count)
        return self.train_s_fixed + size * self.train_s_per_vector if size else 0.0

    def add_s(self, count: int) -> float:
        """Seconds to add `count` vectors."""
        return count * self.add_s_per_vector

    def search_s(self, count: int) -> float:
        """Seconds for a batch of `SEARCHED` queries in an index of `count` vectors, on all processors."""
        return self.search_s_fixed + count * self.search_s_per_vector

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
    vectors = sample_vectors(min(count, MOST_SAMPLED), dim)
    empty = FaissVectors.new(dim, factory)
    training = empty.training_size
    index, fixed_s, training_s = empty, 0.0, 0.0
    if training:
        index, fixed_s, training_s = _measure_training(factory, vectors, min(training, count), budget_s)
    small, most = _written_size(index), _most_added(factory, index, count, len(vectors))
    fills, spent = list[float](), 0.0
    while len(fills) < _FILLS and spent * (1 + 1 / max(len(fills), 1)) <= budget_s:
        filled = index.clone()
        pieces = _measure_adding(filled, vectors, most, budget_s)
        steady = pieces[1:] or pieces  # the first one pays for what a library does once
        fills.append(sum(piece.seconds for piece in steady) / sum(piece.count for piece in steady))
        spent += sum(piece.seconds for piece in pieces)
    growing = (_written_size(filled) - small) / len(filled)
    searching = _measure_searching(index, filled, vectors)
    return Costs(factory, dim, training, fixed_s, training_s, min(fills), small, growing, *searching)


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


def _measure_searching(
    smaller: FaissVectors, filled: FaissVectors, vectors: NDArray[np.float32]
) -> tuple[float, float]:
    """Seconds of a batch of queries at size 0, and per vector of the index; `smaller` is filled for it."""
    queries = sample_vectors(SEARCHED, vectors.shape[1], seed=1)
    smaller.add(vectors[: max(len(vectors) // 4, 1)])
    measured = []
    for index in (smaller, filled):
        index.tune(SearchSettings())
        times = [_seconds(partial(index.search, queries, _TOP_K)) for _ in range(_SEARCHES)]
        measured.append((len(index), min(times)))
    if "HNSW" in filled.factory and "IVF" not in filled.factory:
        return measured[-1][1], 0.0
    return line_through(measured) if measured[1][0] > measured[0][0] else (0.0, measured[0][1] / measured[0][0])


def line_through(measured: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds at size 0 and seconds per vector, both at least 0, through one or two measurements."""
    (size, seconds), (larger, more) = measured[0], measured[-1]
    slope = max((more - seconds) / (larger - size), 0.0) if larger > size else more / larger
    fixed = max(more - slope * larger, 0.0)
    return fixed, (more - fixed) / larger


@dataclass(frozen=True, slots=True)
class _Piece:
    """Vectors that were added one shard after the other."""

    count: int
    seconds: float


def _most_added(factory: str, index: FaissVectors, count: int, sampled: int) -> int:
    """Vectors to add at most: the sample again and again, except to a graph, which equal vectors would distort."""
    if "HNSW" in factory:
        return sampled
    return max(sampled, min(count, _MOST_ADDED_BYTES // (index.code_size or index.dim * _FLOAT_BYTES)))


def _measure_adding(index: FaissVectors, vectors: NDArray[np.float32], most: int, budget_s: float) -> list[_Piece]:
    """Fill the index with pieces that double it, each in shards as a build does."""
    pieces: list[_Piece] = []
    stop = min(_FIRST_ADDING, most)
    while True:
        start = len(index)
        pieces.append(_Piece(stop - start, sum(_shard_seconds(index, vectors, start, stop))))
        spent = sum(piece.seconds for piece in pieces)
        if stop == most or spent + 2 * pieces[-1].seconds > budget_s:
            return pieces
        stop = min(2 * stop, most)


def _shard_seconds(index: FaissVectors, vectors: NDArray[np.float32], start: int, stop: int) -> Iterator[float]:
    while start < stop:
        row = start % len(vectors)
        shard = vectors[row : row + min(SHARD_SIZE, stop - start)]
        yield _seconds(partial(index.add, shard))
        start += len(shard)


def _written_size(index: FaissVectors) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.faiss"
        index.write(path)
        return path.stat().st_size


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
