"""Dense retrieval: an encoder's vectors in a FAISS index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retriever.index import manifest
from retriever.index.encoder import Encoder
from retriever.index.faiss_vectors import LIBRARIES, METRIC, FaissVectors, SearchSettings, VectorsError
from retriever.interface import Ranking
from retriever.passage import Hits, Passage

BACKEND = "dense"
VECTORS_NAME = "vectors.faiss"
_NOTHING = Ranking(np.zeros(0, np.int64), np.zeros(0, np.float32))


class DenseIndex:
    """Passages by inner product of their vectors with the query's.

    A query whose vector is all zeros points nowhere and finds nothing. Equal scores are ordered as in the
    corpus; scores may differ in the last digits between batch sizes, because the library multiplies in
    another order.
    """

    def __init__(
        self, passages: Sequence[Passage], encoder: Encoder, vectors: FaissVectors, settings: SearchSettings
    ) -> None:
        """Use `build` or `load`; vector i of `vectors` belongs to `passages[i]`."""
        self.passages = passages
        self.encoder = encoder
        self.vectors = vectors
        self.settings = settings

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage],
        encoder: Encoder,
        *,
        factory: str = "Flat",
        settings: SearchSettings | None = None,
        batch_size: int = 4096,
    ) -> DenseIndex:
        """Encode and index passages in memory; `retriever.build` does it in files.

        Args:
            passages: at least one.
            factory: faiss factory string: `Flat` is exact; others (`IVF256,Flat`, `HNSW32`) trade exactness.
            settings: how it is searched.
            batch_size: passages handed to the encoder at once.

        Raises:
            ValueError: no passages, a factory string that faiss does not know, or too few passages for it.
        """
        if not passages:
            raise ValueError("nothing to index: the corpus has no passages")
        vectors, settings = FaissVectors.new(encoder.dim, factory), settings or SearchSettings()
        batches = (passages[start : start + batch_size] for start in range(0, len(passages), batch_size))
        matrix = np.concatenate([encoder.encode_passages([p.titled_text for p in batch]) for batch in batches])
        if not vectors.is_trained:
            vectors.train(matrix)
        vectors.add(matrix)
        vectors.tune(settings)
        return cls(passages, encoder, vectors, settings)

    def save(self, folder: str | Path) -> None:
        """Write index, passages and manifest into a folder, created if missing."""
        folder = manifest.start_saving(folder)
        self.vectors.write(folder / VECTORS_NAME)
        facts = dense_facts(self.encoder, self.vectors.factory, self.settings)
        manifest.finish_saving(folder, BACKEND, self.passages, facts, LIBRARIES)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: Encoder,
        *,
        settings: SearchSettings | None = None,
        gpu: bool = False,
        corpus: str | Path | None = None,
    ) -> DenseIndex:
        """Open an index, memory-mapped, to be searched with `encoder`.

        Args:
            settings: how it is searched, if not as the manifest says.
            gpu: copy the vectors to the machine's GPUs.
            corpus: where its passage store has moved to.

        Raises:
            IndexMismatch: built with another encoder, prefix, dimension or corpus than given; both sides
                named.
            CorpusError: the saved passages are damaged.
            VectorsError: GPUs were asked for, and cannot be used.
        """
        saved = manifest.read_manifest(folder)
        manifest.check_facts(folder, saved, {"backend": BACKEND, "metric": METRIC, **encoder.facts})
        passages = manifest.load_passages(folder, saved, corpus)
        try:
            vectors = FaissVectors.read(Path(folder) / VECTORS_NAME, str(saved.get("factory")))
        except VectorsError as error:
            raise manifest.IndexMismatch(f"{folder}: {error}") from error
        manifest.check_facts(folder, saved, {"count": len(vectors), "dim": vectors.dim})
        settings = settings or _settings_of(saved)
        vectors.tune(settings)
        if gpu:
            vectors.to_gpus(settings)
        return cls(passages, encoder, vectors, settings)

    @property
    def name(self) -> str:
        """`dense:` and the encoder's name."""
        return f"{BACKEND}:{self.encoder.facts['encoder']}"

    def __len__(self) -> int:
        return len(self.passages)

    def search(self, queries: Sequence[str], top_k: int) -> list[Hits]:
        """Result i answers query i: at most `top_k` hits, best first. One batch for the encoder."""
        return [ranking.hits(self.passages) for ranking in self.rank(queries, top_k)]

    def rank(self, queries: Sequence[str], top_k: int) -> list[Ranking]:
        """As `search`, with positions in place of passages."""
        if not queries:
            return []
        vectors = self.encoder.encode_queries(queries)
        scores, rows = self.vectors.search(vectors, min(top_k, len(self)))
        return [_ranking(scores[i], rows[i]) if vectors[i].any() else _NOTHING for i in range(len(queries))]


def dense_facts(encoder: Encoder, factory: str, settings: SearchSettings) -> dict[str, object]:
    """The manifest of a dense index."""
    return {**encoder.facts, "metric": METRIC, "factory": factory, **asdict(settings)}


def _settings_of(saved: Mapping[str, Any]) -> SearchSettings:
    defaults = asdict(SearchSettings())
    return SearchSettings(**{name: int(saved.get(name, value)) for name, value in defaults.items()})


def _ranking(scores: Any, rows: Any) -> Ranking:
    # An approximate index may find fewer than asked for and fills up with row -1.
    found = rows >= 0
    order = np.lexsort((rows[found], -scores[found]))
    return Ranking(rows[found][order], scores[found][order])
