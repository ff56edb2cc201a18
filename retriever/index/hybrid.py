"""BM25 and dense retrieval together, by reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retriever.index import manifest
from retriever.index.bm25 import Bm25Index
from retriever.index.dense import DenseIndex
from retriever.interface import RankedIndex, Ranking
from retriever.passage import Hits, Passage

BACKEND = "hybrid"
PARTS = ("bm25", "dense")
"""The parts' folders in a saved hybrid."""
RRF_K = 60
"""Damps the weight of first places; the value of Cormack, Clarke and Buettcher (SIGIR 2009)."""
DEPTH = 30
"""Results of each part that are fused: deeper lists add agreement on passages that neither part thinks much of."""


class HybridIndex:
    """Fuses the rankings of two indexes over the same corpus: a passage scores the sum of 1 / (k + rank).

    Ranks, not scores, so that the two scales need not agree. Source: Cormack, Clarke and Buettcher, "Reciprocal
    rank fusion outperforms Condorcet and individual rank learning methods", SIGIR 2009.
    """

    def __init__(self, lexical: RankedIndex, dense: RankedIndex, *, rrf_k: int = RRF_K, depth: int = DEPTH) -> None:
        """Join two indexes.

        Raises:
            ValueError: they are of different sizes, or a parameter is below 1.
        """
        if len(lexical) != len(dense):
            raise ValueError(f"a hybrid needs one corpus: {lexical.name} has {len(lexical)}, {dense.name} {len(dense)}")
        if rrf_k < 1 or depth < 1:
            raise ValueError(f"a hybrid needs rrf_k >= 1 and depth >= 1, found {rrf_k} and {depth}")
        self.passages: Sequence[Passage] = lexical.passages
        self._parts = (lexical, dense)
        self._rrf_k, self._depth = rrf_k, depth

    @property
    def name(self) -> str:
        """`hybrid:` and the parts' names."""
        return f"{BACKEND}:{'+'.join(part.name for part in self._parts)}"

    @property
    def dense(self) -> RankedIndex:
        """The part that goes by vectors."""
        return self._parts[1]

    def __len__(self) -> int:
        return len(self.passages)

    def search(self, queries: Sequence[str], top_k: int) -> list[Hits]:
        """Result i answers query i: at most `top_k` hits, best first. One batch for the encoder."""
        return [ranking.hits(self.passages) for ranking in self.rank(queries, top_k)]

    def rank(self, queries: Sequence[str], top_k: int) -> list[Ranking]:
        """As `search`, with positions in place of passages."""
        depth = max(self._depth, top_k)
        both = [part.rank(queries, depth) for part in self._parts]
        return [self._fuse(rankings, top_k) for rankings in zip(*both, strict=True)]

    def save(self, folder: str | Path) -> None:
        """Write both parts and the manifest into a folder, created if missing."""
        folder = manifest.start_saving(folder)
        for name, part in zip(PARTS, self._parts, strict=True):
            part.save(folder / name)
        finish_hybrid(folder, self._rrf_k, self._depth)

    @classmethod
    def join(cls, folder: Path, lexical: Bm25Index, dense: DenseIndex) -> HybridIndex:
        """Parts loaded from a saved hybrid's folders, with its parameters.

        Raises:
            IndexMismatch: not a hybrid, or the parts changed since.
        """
        saved = manifest.read_manifest(folder)
        manifest.check_facts(folder, saved, {"backend": BACKEND, **_common(folder)})
        # One corpus in memory, not two: the parts' hashes have just been compared.
        dense.passages = lexical.passages
        return cls(lexical, dense, rrf_k=int(str(saved["rrf_k"])), depth=int(str(saved["depth"])))

    def _fuse(self, rankings: Sequence[Ranking], top_k: int) -> Ranking:
        rows = np.concatenate([ranking.rows for ranking in rankings])
        gains = np.concatenate([1 / (self._rrf_k + 1 + np.arange(len(ranking.rows))) for ranking in rankings])
        unique, places = np.unique(rows, return_inverse=True)
        scores = np.bincount(places, weights=gains, minlength=len(unique)).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:top_k]
        return Ranking(unique[best], scores[best])


def finish_hybrid(folder: Path, rrf_k: int = RRF_K, depth: int = DEPTH) -> None:
    """Write the manifest of a hybrid whose parts are saved in its folders.

    Raises:
        IndexMismatch: the parts are not over one corpus.
    """
    manifest.finish_joining(folder, BACKEND, {**_common(folder), "rrf_k": rrf_k, "depth": depth})


def _common(folder: Path) -> dict[str, object]:
    """The facts in which both parts must agree."""
    first, second = (manifest.read_manifest(folder / name) for name in PARTS)
    shared = {key: first[key] for key in ("count", "corpus_sha256")}
    manifest.check_facts(folder / PARTS[1], second, shared)
    return shared
