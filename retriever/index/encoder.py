"""Text -> vectors. Queries and passages are encoded differently; each model's prefixes stand in one table."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foundation.files import text_number
from retriever.index.sentence_encoder import EncoderSpec, SentenceTransformerEncoder
from retriever.index.words import whole_words

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
            raise ValueError(f"HashingEncoder needs dim >= 2, found {dim}")
        self.dim = dim
        self.facts: Mapping[str, object] = {
            "encoder": HASHING,
            "tokenizer": "words-1",
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
            for word, count in Counter(whole_words(text)).items():
                code = _word_number(word)
                sign = 1.0 if code & 1 else -1.0
                vectors[row, (code >> 1) % self.dim] += sign * (1.0 + np.log(count))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors


_word_number = lru_cache(maxsize=1 << 18)(text_number)


ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {
        "bge-large-en-v1.5": EncoderSpec(
            "BAAI/bge-large-en-v1.5",
            query_prefix="Represent this sentence for searching relevant passages: ",
            passage_prefix="",
            pooling="cls",
            max_length=300,
        ),
        "e5-base-v2": EncoderSpec(
            "intfloat/e5-base-v2",
            query_prefix="query: ",
            passage_prefix="passage: ",
            pooling="mean",
            max_length=256,
        ),
        "all-MiniLM-L6-v2": EncoderSpec(
            "sentence-transformers/all-MiniLM-L6-v2",
            query_prefix="",
            passage_prefix="",
            pooling="mean",
            max_length=256,
        ),
    }
)
"""Models by name, as the published systems use them."""

HASHING = "hashing"
"""The name of `HashingEncoder`, which needs no model."""

ENCODER_NAMES = (*ENCODERS, HASHING)


def add_encoder_options(add: Callable[..., object], device: str = "torch device of the encoder") -> None:
    """The options of a command that loads an encoder, besides its name.

    Args:
        add: `add_argument` of a parser or of one of its groups.
        device: what the help says of `--device`.
    """
    add("--encoder-path", metavar="DIR", help="folder with the encoder's weights")
    add("--trust-remote-code", action="store_true", help="run Python code that comes with the encoder")
    add("--device", help=device)


def load_encoder(
    name: str,
    path: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str = "auto",
    dim: int | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Load an encoder: a name of the table, or any other name for the sentence-transformers model at `path`.

    Args:
        path: local folder with the weights, instead of the hub. For a model that is not in the table, prefixes,
            pooling and length are those of its folder.
        device, dtype, trust_remote_code: see `SentenceTransformerEncoder`; the hashing encoder takes no notice.
        dim: size of the hashing encoder.

    Raises:
        ValueError: an unknown name without a path, a path that is no folder, or a path for an encoder without
            weights.
        ImportError: sentence-transformers is missing.
    """
    if path is not None and name == HASHING:
        raise ValueError(f"the hashing encoder has no weights, so it takes no path (found {str(path)!r})")
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"the encoder's weights are not at {path}: no such folder")
    if name == HASHING:
        return HashingEncoder() if dim is None else HashingEncoder(dim)
    spec = ENCODERS.get(name)
    if spec is None and path is None:
        known = ", ".join(ENCODER_NAMES)
        raise ValueError(f"unknown encoder {name!r}; known: {known}; for any other give the folder of its model")
    if spec is None or path is not None:
        spec = replace(spec or EncoderSpec(str(path)), model=str(path))
    return SentenceTransformerEncoder(spec, name=name, device=device, dtype=dtype, trust_remote_code=trust_remote_code)


def on_every_gpu(encoder: Encoder) -> AbstractContextManager[None]:
    """A block in which the encoder works on every GPU of the machine, where it can."""
    if isinstance(encoder, SentenceTransformerEncoder):
        return encoder.on_every_gpu()
    return contextlib.nullcontext()


def takes_long_calls(encoder: Encoder) -> bool:
    """Whether an encoder wants as many texts in one call as there are, because several GPUs share each call."""
    return isinstance(encoder, SentenceTransformerEncoder) and encoder.is_shared
