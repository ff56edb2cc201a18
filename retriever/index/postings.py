"""BM25's index from counted words: shards of counts, each made alone, then put together without Python lists.

The bm25s library indexes from lists of token ids, which takes some 100 GB of memory for 30 million passages. What
is built here holds one shard's counts at a time, its result may lie in files, and it is what bm25s reads and
searches. Scores are those of the library's method "lucene" (Kamphuis et al., "Which BM25 do you mean?", ECIR 2020):

    log(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.files import draft
from retriever.index.words import words
from retriever.passage import Passage


@dataclass(frozen=True)
class Counts:
    """The words of some successive passages; postings are ordered by word, then by passage."""

    words: list[str]
    """In order of first occurrence; word i below is this list's i."""
    lengths: NDArray[np.int32]
    """Words in each passage, repetitions included, shape [passages]."""
    starts: NDArray[np.int64]
    """Where each word's postings begin, and the end of the last, shape [words + 1]."""
    rows: NDArray[np.int32]
    """Passage of each posting, counted within these passages, shape [postings]."""
    times: NDArray[np.int32]
    """How often the word stands in that passage, shape [postings]."""

    def save(self, path: Path) -> None:
        """Write as a whole file."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        # Words hold no white space, and one long string saves and loads faster than an array of strings.
        arrays["words"] = np.frombuffer(" ".join(self.words).encode(), dtype=np.uint8)
        with draft(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Counts:
        """Read back what `save` wrote."""
        with np.load(path) as arrays:
            known = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**{**known, "words": known["words"].tobytes().decode().split(" ") if len(known["words"]) else []})


@dataclass(frozen=True)
class Statistics:
    """The statistics of the whole corpus that a word's weight depends on."""

    vocabulary: dict[str, int]
    """Word -> column, in order of first occurrence."""
    frequencies: NDArray[np.int64]
    """Passages that hold each word, shape [words]."""
    count: int
    """Passages."""
    mean_length: float
    """Words per passage."""


def count_words(passages: Iterable[Passage], title_weight: int) -> Counts:
    """Count the words of titles (each `title_weight` times) and texts."""
    local: dict[str, int] = {}
    tokens: list[NDArray[np.int32]] = []
    for passage in passages:
        found = words(passage.title) * title_weight + words(passage.text)
        tokens.append(np.fromiter((local.setdefault(word, len(local)) for word in found), np.int32, len(found)))
    lengths = np.array([len(each) for each in tokens], dtype=np.int32)
    flat = np.concatenate(tokens) if tokens else np.zeros(0, np.int32)
    key = flat.astype(np.int64) * max(len(lengths), 1) + np.repeat(np.arange(len(lengths)), lengths)
    pairs, times = np.unique(key, return_counts=True)
    word, rows = np.divmod(pairs, max(len(lengths), 1))
    starts = np.searchsorted(word, np.arange(len(local) + 1))
    return Counts(list(local), lengths, starts.astype(np.int64), rows.astype(np.int32), times.astype(np.int32))


def gather(shards: Iterable[Counts]) -> Statistics:
    """Statistics over all shards, in order."""
    vocabulary: dict[str, int] = {}
    frequencies = np.zeros(0, np.int64)
    count = total = 0
    for shard in shards:
        columns = _columns(shard, vocabulary)
        if len(vocabulary) > len(frequencies):
            # Doubled, so that growing costs no more than filling.
            frequencies = np.concatenate([frequencies, np.zeros(max(len(vocabulary), 1024), np.int64)])
        frequencies[columns] += np.diff(shard.starts)
        count += len(shard.lengths)
        total += int(shard.lengths.sum())
    return Statistics(vocabulary, frequencies[: len(vocabulary)], count, total / count if count else 0.0)


NewArray = Callable[[str, int, Any], Any]
"""(name, length, dtype) -> an array to fill: in memory, or mapped from a file."""


def weigh(
    shards: Iterable[Counts], statistics: Statistics, k1: float, b: float, new: NewArray
) -> dict[str, NDArray[Any]]:
    """The scores, ordered by word and then by passage, as bm25s keeps them: data, indices, indptr.

    Args:
        shards: the ones that the statistics were gathered from, in the same order.
        new: makes the two large arrays, so that they may lie in files.
    """
    ends = np.cumsum(statistics.frequencies)
    indptr = np.concatenate([np.zeros(1, np.int64), ends])
    data = new("data", int(indptr[-1]), np.float32)
    indices = new("indices", int(indptr[-1]), np.int32)
    df = statistics.frequencies
    rarity = np.log(1 + (statistics.count - df + 0.5) / (df + 0.5))
    free, first = indptr[:-1].copy(), 0
    for shard in shards:
        columns, runs = _columns(shard, statistics.vocabulary), np.diff(shard.starts)
        slots = np.repeat(free[columns] - shard.starts[:-1], runs) + np.arange(len(shard.rows))
        norm = k1 * (1 - b + b * shard.lengths / statistics.mean_length)
        data[slots] = np.repeat(rarity[columns], runs) * shard.times / (shard.times + norm[shard.rows])
        indices[slots] = shard.rows + first
        free[columns] += runs
        first += len(shard.lengths)
    return {"data": data, "indices": indices, "indptr": indptr}


def _columns(shard: Counts, vocabulary: dict[str, int]) -> NDArray[np.int64]:
    """The shard's words as columns; new words are added."""
    known: Sequence[int] = [vocabulary.setdefault(word, len(vocabulary)) for word in shard.words]
    return np.array(known, dtype=np.int64)
