"""Reciprocal rank fusion: hand-computed scores, saving and loading, what cannot be joined."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.index.backends import Opening, build_index, load_index
from retriever.index.bm25 import Bm25Index
from retriever.index.dense import DenseIndex
from retriever.index.encoder import HashingEncoder
from retriever.index.hybrid import HybridIndex
from retriever.index.manifest import IndexMismatch
from retriever.interface import Ranking


class Ranked:
    """Gives the same positions for every query, and remembers the batches it was asked."""

    def __init__(self, name, passages, rows):
        self.name, self.passages, self.rows, self.asked = name, passages, rows, []

    def __len__(self):
        return len(self.passages)

    def rank(self, queries, top_k):
        self.asked.append((list(queries), top_k))
        rows = np.array(self.rows[:top_k], np.int64)
        return [Ranking(rows, np.linspace(9, 1, len(rows), dtype=np.float32)) for _ in queries]


def test_scores_by_hand(passages):
    joined = HybridIndex(Ranked("a", passages, [0, 1, 2]), Ranked("b", passages, [2, 0, 3]), rrf_k=60)
    hits = joined.search(["q"], 3)[0]
    assert [hit.passage.id for hit in hits] == ["p0", "p2", "p1"]
    assert [hit.score for hit in hits] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62])


def test_ties_come_in_corpus_order_and_batches_stay_batches(passages):
    first, second = Ranked("a", passages, [4, 1]), Ranked("b", passages, [1, 4])
    joined = HybridIndex(first, second, depth=2)
    assert [hit.passage.id for hit in joined.search(["q", "r"], 5)[1]] == ["p1", "p4"]
    assert first.asked == second.asked == [(["q", "r"], 5)]
    assert joined.search([], 3) == []


def test_a_query_that_neither_knows_finds_nothing(passages):
    assert build_index(passages, "hybrid", "hashing").search(["?!", "paris"], 2)[0] == ()


def test_save_and_load(passages, tmp_path):
    built = build_index(passages, "hybrid", "hashing")
    assert isinstance(built, HybridIndex)
    built.save(tmp_path)
    loaded = load_index(tmp_path, Opening(backend="hybrid"))
    assert loaded.search(["akkadian spirit", "twin"], 4) == built.search(["akkadian spirit", "twin"], 4)
    assert (loaded.name, len(loaded)) == ("hybrid:bm25+dense:hashing", len(passages))


def test_parts_of_two_corpora_are_refused(passages, tmp_path):
    built = build_index(passages, "hybrid", "hashing")
    built.save(tmp_path)
    Bm25Index.build(passages[::-1]).save(tmp_path / "bm25")
    with pytest.raises(IndexMismatch, match="corpus_sha256"):
        load_index(tmp_path)
    with pytest.raises(ValueError, match="one corpus: bm25 has 3, dense:hashing 6"):
        HybridIndex(Bm25Index.build(passages[:3]), DenseIndex.build(passages, HashingEncoder(64)))
    with pytest.raises(ValueError, match="rrf_k >= 1"):
        HybridIndex(Bm25Index.build(passages), DenseIndex.build(passages, HashingEncoder(64)), rrf_k=0)
