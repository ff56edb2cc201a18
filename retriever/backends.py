"""The index backends by name: how each is built from passages and loaded from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retriever.interface import Index
from retriever.manifest import IndexMismatch, read_manifest
from retriever.passage import Passage

BACKENDS = ("bm25", "dense")


def build_index(
    passages: Sequence[Passage], backend: str, encoder: str | None = None, encoder_path: str | None = None
) -> Index:
    """Build an index in memory; `encoder` names a row of `ENCODERS` and belongs to the dense backend.

    Raises:
        ValueError: an unknown backend or encoder, or an encoder missing or given where it does not belong.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    if backend == "bm25":
        _refuse_encoder(encoder or encoder_path)
        from retriever.bm25 import Bm25Index

        return Bm25Index.build(passages)
    from retriever.dense import DenseIndex
    from retriever.encoder import ENCODERS, load_encoder

    if encoder is None:
        raise ValueError(f"the dense backend needs an encoder; known: {', '.join(ENCODERS)}")
    return DenseIndex.build(passages, load_encoder(encoder, encoder_path))


def load_index(
    folder: str | Path,
    backend: str | None = None,
    encoder: str | None = None,
    encoder_path: str | None = None,
) -> Index:
    """Load a saved index; backend and encoder default to the ones it was built with.

    Raises:
        IndexMismatch: it was built with another backend or encoder than asked for, or is damaged.
    """
    saved = read_manifest(folder)
    found = saved.get("backend")
    if found not in BACKENDS or (backend is not None and backend != found):
        raise IndexMismatch(f"saved index {folder} is of backend {found!r}, asked for is {backend or BACKENDS!r}")
    if found == "bm25":
        _refuse_encoder(encoder or encoder_path)
        from retriever.bm25 import Bm25Index

        return Bm25Index.load(folder)
    from retriever.dense import DenseIndex
    from retriever.encoder import HashingEncoder, load_encoder

    name = encoder or str(saved.get("encoder"))
    dim = saved.get("dim")
    if name == "hashing" and encoder_path is None and isinstance(dim, int):
        return DenseIndex.load(folder, HashingEncoder(dim))
    return DenseIndex.load(folder, load_encoder(name, encoder_path))


def _refuse_encoder(given: str | None) -> None:
    if given is not None:
        raise ValueError(f"the bm25 backend takes no encoder, got {given!r}")
