"""The index backends by name: how each is built from passages in memory and loaded from a folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retriever.index.manifest import IndexMismatch, read_manifest
from retriever.interface import Index
from retriever.passage import Passage

if TYPE_CHECKING:
    from retriever.index.bm25 import Bm25Index
    from retriever.index.dense import DenseIndex
    from retriever.index.encoder import Encoder
    from retriever.index.faiss_vectors import SearchSettings

BACKENDS = ("bm25", "dense", "hybrid")
"""The backends for a corpus in this process."""
SAVED_BACKENDS = (*BACKENDS, "milvus")
"""The backends of saved indexes."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a saved index is opened; what is left out is as the manifest says."""

    backend: str | None = None
    """What it must be: of another backend, it is refused."""
    encoder: str | None = None
    """What it must have been built with."""
    encoder_path: str | Path | None = None
    """Folder with the encoder's weights."""
    device: str | None = None
    """Torch device of the encoder."""
    dtype: str = "auto"
    """Number format of the encoder's weights."""
    settings: SearchSettings | None = None
    """How FAISS searches."""
    gpu: bool = False
    """Copy the vectors to the machine's GPUs."""
    corpus: str | Path | None = None
    """The passage store's new folder, if it has moved."""
    milvus_uri: str | None = None
    """The Milvus server; the one that a manifest names is not trusted with the token."""
    trust_remote_code: bool = False
    """Run Python code that comes with the encoder."""

    @classmethod
    def of(cls, options: argparse.Namespace) -> Opening:
        """As a command's flags say; one that the command does not have is as if it were not given."""
        given = {name: value for name, value in vars(options).items() if value is not None}
        same = ("backend", "encoder", "encoder_path", "device", "dtype", "milvus_uri", "trust_remote_code")
        return cls(
            **{name: given[name] for name in same if name in given},
            settings=_settings({name: given[name] for name in ("nprobe", "ef_search") if name in given}),
            gpu=given.get("faiss_gpu", False),
            corpus=given.get("store"),
        )


def _settings(given: Mapping[str, int]) -> SearchSettings | None:
    from retriever.index.faiss_vectors import SearchSettings

    return SearchSettings(**given) if given else None


def build_index(
    passages: Sequence[Passage],
    backend: str,
    encoder: str | None = None,
    encoder_path: str | None = None,
    factory: str = "Flat",
    *,
    trust_remote_code: bool = False,
) -> Index:
    """Build an index in memory; `retriever.build` does it in files, for corpora that do not fit.

    Args:
        encoder: a name for `load_encoder`; belongs to the dense and hybrid backends.
        factory: faiss factory string of the vectors.
        trust_remote_code: run Python code that comes with the encoder.

    Raises:
        ValueError: an unknown backend or encoder, or an encoder missing or given where it does not belong.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    if backend == "bm25":
        _refuse_encoder(encoder or encoder_path)
        return _bm25().build(passages)
    from retriever.index.dense import DenseIndex
    from retriever.index.encoder import ENCODER_NAMES, load_encoder
    from retriever.index.hybrid import HybridIndex

    if encoder is None:
        raise ValueError(f"the {backend} backend needs an encoder; known: {', '.join(ENCODER_NAMES)}")
    loaded = load_encoder(encoder, encoder_path, trust_remote_code=trust_remote_code)
    dense = DenseIndex.build(passages, loaded, factory=factory)
    return dense if backend == "dense" else HybridIndex(_bm25().build(passages), dense)


def load_index(folder: str | Path, opening: Opening | None = None) -> Index:
    """Open a saved index of any backend, memory-mapped.

    Raises:
        IndexMismatch: it was built with another backend or encoder than asked for, or is damaged.
    """
    opening = opening or Opening()
    saved = read_manifest(folder)
    found = saved.get("backend")
    if found not in SAVED_BACKENDS or opening.backend not in (None, found):
        wanted = repr(opening.backend) if opening.backend else " or ".join(SAVED_BACKENDS)
        raise IndexMismatch(f"saved index {folder} is of backend {found!r}, expected {wanted}")
    if found == "bm25":
        _refuse_encoder(opening.encoder or opening.encoder_path)
        return _bm25().load(folder, opening.corpus)
    if found == "dense":
        return _load_dense(folder, saved, opening)
    if found == "hybrid":
        from retriever.index.hybrid import PARTS, HybridIndex

        lexical_folder, dense_folder = (Path(folder) / name for name in PARTS)
        dense = _load_dense(dense_folder, read_manifest(dense_folder), opening)
        return HybridIndex.join(Path(folder), _bm25().load(lexical_folder, opening.corpus), dense)
    from retriever.index.milvus import MilvusIndex

    return MilvusIndex.load(folder, _encoder_of(saved, opening), opening.milvus_uri)


def _load_dense(folder: str | Path, saved: Mapping[str, object], opening: Opening) -> DenseIndex:
    from retriever.index.dense import DenseIndex

    chosen = _encoder_of(saved, opening)
    return DenseIndex.load(folder, chosen, settings=opening.settings, gpu=opening.gpu, corpus=opening.corpus)


def _encoder_of(saved: Mapping[str, object], opening: Opening) -> Encoder:
    from retriever.index.encoder import HASHING, load_encoder

    name, dim = opening.encoder or str(saved.get("encoder")), saved.get("dim")
    size = dim if name == HASHING and isinstance(dim, int) else None
    return load_encoder(
        name,
        opening.encoder_path,
        device=opening.device,
        dtype=opening.dtype,
        dim=size,
        trust_remote_code=opening.trust_remote_code,
    )


def _bm25() -> type[Bm25Index]:
    from retriever.index.bm25 import Bm25Index

    return Bm25Index


def _refuse_encoder(given: object) -> None:
    if given is not None:
        raise ValueError(f"the bm25 backend takes no encoder, found {given!r}")
