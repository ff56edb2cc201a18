"""Text -> vectors. Queries and passages are encoded differently; each model's prefixes stand in one table."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retriever.words import WORDS_VERSION, words

Vectors = NDArray[np.float32]
"""Shape [number of texts, dim]."""


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors whose inner product says how well a passage answers a query."""

    @property
    def facts(self) -> Mapping[str, object]:
        """All that changes the vectors (name, prefixes, lengths, `dim`): saved with an index and compared."""
        ...

    @property
    def dim(self) -> int:
        """Length of every vector."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, float32 [len(texts), dim]."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, float32 [len(texts), dim]."""
        ...


class SentenceTransformerEncoder:
    """A sentence-transformers model; pooling is the model's own (CLS for BGE, mean for E5 and MiniLM)."""

    def __init__(
        self,
        model_name_or_path: str,
        *,
        name: str | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        normalize: bool = True,
        max_length: int = 256,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            model_name_or_path: a hub id or a local folder.
            name: what the index manifest calls it; default `model_name_or_path`. Lets weights move.
            query_prefix, passage_prefix: put before every text, as the model was trained with.
            normalize: scale vectors to length 1, so that the inner product is the cosine.
            max_length: tokens per text, prefix included; longer texts are cut.
            device: torch device, default the library's choice.

        Raises:
            ImportError: sentence-transformers is missing.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError(
                "this encoder needs the sentence-transformers library: pip install sentence-transformers"
            ) from error
        self._model: Any = SentenceTransformer(model_name_or_path, device=device)
        self._model.max_seq_length = max_length
        self._query_prefix, self._passage_prefix = query_prefix, passage_prefix
        self._normalize, self._batch_size = normalize, batch_size
        # Fast tokenizers keep truncation state and fail with "Already borrowed" when two threads share one.
        self._lock = threading.Lock()
        self.dim = int(self._encode([""]).shape[1])
        self.facts: Mapping[str, object] = {
            "encoder": name or model_name_or_path,
            "query_prefix": query_prefix,
            "passage_prefix": passage_prefix,
            "normalize": normalize,
            "max_length": max_length,
            "dim": self.dim,
        }

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, float32 [len(texts), dim]."""
        return self._encode([self._query_prefix + text for text in texts])

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, float32 [len(texts), dim]."""
        return self._encode([self._passage_prefix + text for text in texts])

    def _encode(self, texts: list[str]) -> Vectors:
        with self._lock:
            vectors = self._model.encode(
                texts,
                batch_size=self._batch_size,
                normalize_embeddings=self._normalize,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.asarray(vectors, dtype=np.float32)


class HashingEncoder:
    """Bag of words by feature hashing: no model, no training, no download.

    Every word adds `1 + log(count)` with a hashed sign at a hashed position, and the vector is scaled to
    length 1. It knows spelling only (no synonyms, no word order, no rarity weighting), so it ranks worse than
    BM25: it is there so that the dense path runs for real on any machine, not to be trained against. The hash
    is BLAKE2, the same on every machine. A text without words has the zero vector.
    """

    def __init__(self, dim: int = 1024) -> None:
        """Choose the number of positions; fewer means more words sharing one. Raises ValueError below 2."""
        if dim < 2:
            raise ValueError(f"HashingEncoder needs dim >= 2, got {dim}")
        self.dim = dim
        self.facts: Mapping[str, object] = {
            "encoder": "hashing",
            "tokenizer": WORDS_VERSION,
            "query_prefix": "",
            "passage_prefix": "",
            "normalize": True,
            "dim": dim,
        }

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, float32 [len(texts), dim]."""
        return self._encode(texts)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, float32 [len(texts), dim]; the same as for queries."""
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word, count in Counter(words(text)).items():
                code = _hash(word)
                sign = 1.0 if code & 1 else -1.0
                vectors[row, (code >> 1) % self.dim] += sign * (1.0 + np.log(count))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors


@lru_cache(maxsize=1 << 18)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _model_row(name: str, hub_id: str, **settings: Any) -> Callable[..., Encoder]:
    def load(path: str | None = None) -> Encoder:
        return SentenceTransformerEncoder(path or hub_id, name=name, **settings)

    return load


ENCODERS: Mapping[str, Callable[..., Encoder]] = MappingProxyType(
    {
        "bge-large-en-v1.5": _model_row(
            "bge-large-en-v1.5",
            "BAAI/bge-large-en-v1.5",
            query_prefix="Represent this sentence for searching relevant passages: ",
            max_length=300,
        ),
        "e5-base-v2": _model_row(
            "e5-base-v2",
            "intfloat/e5-base-v2",
            query_prefix="query: ",
            passage_prefix="passage: ",
            max_length=256,
        ),
        "all-MiniLM-L6-v2": _model_row("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", max_length=256),
        "hashing": HashingEncoder,
    }
)
"""Encoders by name. Calling a row loads it; a model row takes an optional local folder with the weights."""


def load_encoder(name: str, path: str | None = None) -> Encoder:
    """Load an encoder of the table, with its weights from `path` instead of the hub when given.

    Raises:
        ValueError: the name is not in `ENCODERS`, or a path is given for an encoder without weights.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    if path is None:
        return ENCODERS[name]()
    if name == "hashing":
        raise ValueError(f"the hashing encoder has no weights, so it takes no path (got {path!r})")
    return ENCODERS[name](path)
