"""Dense retrieval: an encoder's vectors in a FAISS index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retriever import manifest
from retriever.encoder import Encoder
from retriever.passage import Hit, Hits, Passage

_BACKEND = "dense"
_METRIC = "inner_product"
_VECTORS_NAME = "vectors.faiss"
_LIBRARIES = ("faiss-cpu", "numpy", "sentence-transformers")


class DenseIndex:
    """Passages by inner product of their vectors with the query's.

    A query whose vector is all zeros points nowhere and finds nothing. Equal scores are ordered as in the
    corpus; scores may differ in the last digits between batch sizes, because the library multiplies in
    another order.
    """

    def __init__(self, passages: Sequence[Passage], encoder: Encoder, vectors: Any, factory: str) -> None:
        """Use `build` or `load`; `vectors` is a faiss index whose vector i belongs to `passages[i]`."""
        self._passages = passages
        self._encoder = encoder
        self._vectors = vectors
        self._factory = factory

    @classmethod
    def build(
        cls, passages: Sequence[Passage], encoder: Encoder, *, factory: str = "Flat", batch_size: int = 4096
    ) -> DenseIndex:
        """Encode and index passages.

        Args:
            passages: at least one.
            factory: faiss factory string: `Flat` is exact; others (`IVF256,Flat`, `HNSW32`) trade exactness.
            batch_size: passages handed to the encoder at once.

        Raises:
            ValueError: no passages, or a factory string that faiss does not know.
        """
        if not passages:
            raise ValueError("nothing to index: the corpus has no passages")
        faiss = _faiss()
        try:
            vectors = faiss.index_factory(encoder.dim, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ValueError(f"faiss does not know the factory string {factory!r}: {error}") from error
        batches = (passages[start : start + batch_size] for start in range(0, len(passages), batch_size))
        matrix = np.concatenate([encoder.encode_passages([p.titled_text for p in batch]) for batch in batches])
        if not vectors.is_trained:
            vectors.train(matrix)
        vectors.add(matrix)
        return cls(passages, encoder, vectors, factory)

    def save(self, folder: str | Path) -> None:
        """Write index, passages and manifest into a folder, created if missing."""
        folder = manifest.start_saving(folder)
        _faiss().write_index(self._vectors, str(folder / _VECTORS_NAME))
        facts = {**self._encoder.facts, "metric": _METRIC, "factory": self._factory}
        manifest.finish_saving(folder, _BACKEND, self._passages, facts, _LIBRARIES)

    @classmethod
    def load(cls, folder: str | Path, encoder: Encoder) -> DenseIndex:
        """Read an index back, to be searched with `encoder`.

        Raises:
            IndexMismatch: built with another encoder, prefix, dimension or corpus than given; both sides
                named.
            CorpusError: the saved passages are damaged.
        """
        saved = manifest.read_manifest(folder)
        expected = {"backend": _BACKEND, "metric": _METRIC, **encoder.facts}
        manifest.check_facts(folder, saved, expected)
        passages = manifest.load_passages(folder, saved)
        try:
            vectors = _faiss().read_index(str(Path(folder) / _VECTORS_NAME))
        except RuntimeError as error:
            raise manifest.IndexMismatch(f"{folder}: cannot read {_VECTORS_NAME} ({error})") from error
        manifest.check_facts(folder, saved, {"count": vectors.ntotal, "dim": vectors.d})
        return cls(passages, encoder, vectors, str(saved.get("factory")))

    @property
    def name(self) -> str:
        """`dense:` and the encoder's name."""
        return f"{_BACKEND}:{self._encoder.facts['encoder']}"

    def __len__(self) -> int:
        return len(self._passages)

    def search(self, queries: Sequence[str], top_k: int) -> list[Hits]:
        """Result i answers query i: at most `top_k` hits, best first. One batch for the encoder."""
        if not queries:
            return []
        vectors = self._encoder.encode_queries(queries)
        scores, rows = self._vectors.search(vectors, min(top_k, len(self)))
        return [self._hits(scores[i], rows[i]) if vectors[i].any() else () for i in range(len(queries))]

    def _hits(self, scores: Any, rows: Any) -> Hits:
        # An approximate index may find fewer than asked for and fills up with row -1.
        found = sorted((-float(score), int(row)) for score, row in zip(scores, rows, strict=True) if row >= 0)
        return tuple(Hit(self._passages[row], -negative) for negative, row in found)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("dense retrieval needs the faiss library: pip install faiss-cpu") from error
    return faiss
