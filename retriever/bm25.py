"""BM25 over titles and texts, on the bm25s library."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from retriever import manifest
from retriever.passage import Hit, Hits, Passage
from retriever.words import WORDS_VERSION, words

_LIBRARIES = ("bm25s", "numpy")
_METHOD = "lucene"
"""The BM25 variant that scores every shared word above 0 and nothing else, so that 0 means "no overlap"."""


class Bm25Index:
    """Lexical index: scores by shared words, weighted by rarity.

    Words come from `retriever.words`: no stop words are removed and nothing is stemmed. A word that occurs n
    times in the query counts n times. Only passages that share a word with the query are hits, so a query
    without a known word gives an empty answer; equal scores are ordered as in the corpus.
    """

    name = "bm25"

    def __init__(self, passages: Sequence[Passage], engine: Any, facts: dict[str, object]) -> None:
        """Use `build` or `load`; `engine` is a bm25s.BM25 whose document i is `passages[i]`."""
        self._passages = passages
        self._engine = engine
        self._facts = facts

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage],
        *,
        title_weight: int = 2,
        k1: float = 1.2,
        b: float = 0.75,
    ) -> Bm25Index:
        """Index passages.

        Args:
            passages: at least one of them with a word in it.
            title_weight: how often the title's words are counted, 0 to leave titles out.
            k1: saturation of repeated words.
            b: length normalisation, 0 to 1.

        Raises:
            ValueError: no passage has a word, or a parameter is out of range.
        """
        if title_weight < 0 or k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"BM25 needs title_weight >= 0, k1 >= 0 and 0 <= b <= 1, got {title_weight}, {k1} and {b}")
        vocabulary: dict[str, int] = {}
        rows = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in words(p.title) * title_weight + words(p.text)]
            for p in passages
        ]
        if not vocabulary:
            raise ValueError(f"nothing to index: {len(passages)} passages, none with a word in it")
        engine = _bm25s().BM25(k1=k1, b=b, method=_METHOD)
        engine.index((rows, vocabulary), show_progress=False)
        facts: dict[str, object] = {"tokenizer": WORDS_VERSION, "title_weight": title_weight}
        return cls(passages, engine, facts | {"k1": k1, "b": b, "method": _METHOD})

    def save(self, folder: str | Path) -> None:
        """Write index, passages and manifest into a folder, created if missing."""
        folder = manifest.start_saving(folder)
        self._engine.save(folder, show_progress=False)
        manifest.finish_saving(folder, self.name, self._passages, self._facts, _LIBRARIES)

    @classmethod
    def load(cls, folder: str | Path) -> Bm25Index:
        """Read an index back.

        Raises:
            IndexMismatch: not a BM25 index, damaged, other passages, or another tokenizer version.
            CorpusError: the saved passages are damaged.
        """
        saved = manifest.read_manifest(folder)
        manifest.check_facts(folder, saved, {"backend": cls.name, "tokenizer": WORDS_VERSION})
        passages = manifest.load_passages(folder, saved)
        try:
            engine = _bm25s().BM25.load(folder, load_corpus=False, show_progress=False)
        except (OSError, ValueError, KeyError) as error:
            raise manifest.IndexMismatch(f"{folder}: cannot read the BM25 index ({error})") from error
        manifest.check_facts(folder, saved, {"count": int(engine.scores["num_docs"])})
        facts = {key: saved[key] for key in ("tokenizer", "title_weight", "k1", "b", "method")}
        return cls(passages, engine, facts)

    def __len__(self) -> int:
        return len(self._passages)

    def search(self, queries: Sequence[str], top_k: int) -> list[Hits]:
        """Result i answers query i: at most `top_k` hits, best first."""
        return [self._search_one(query, top_k) for query in queries]

    def _search_one(self, query: str, top_k: int) -> Hits:
        known = self._engine.get_tokens_ids(words(query))
        if not known:
            return ()
        scores = self._engine.get_scores_from_ids(known)
        rows = np.flatnonzero(scores > 0)
        if len(rows) > top_k:
            # Everything at or above the k-th best score: a plain partition would choose among ties at random.
            cutoff = np.partition(scores[rows], len(rows) - top_k)[len(rows) - top_k]
            rows = rows[scores[rows] >= cutoff]
        best = rows[np.argsort(-scores[rows], kind="stable")][:top_k]
        return tuple(Hit(self._passages[row], float(scores[row])) for row in best)


def _bm25s() -> Any:
    try:
        bm25s = import_module("bm25s")
    except ImportError as error:
        raise ImportError("BM25 needs the bm25s library: pip install bm25s") from error
    # The library sets its own logger to DEBUG on import, which would flood any configured handler.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s
