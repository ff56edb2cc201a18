"""The encoder with nobody else at work, and the index that is made with it: what runs in a process of its own.

A process that is spawned cannot import it from a package's `__main__`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from benchmarks.retriever.loaded_server import Work
from retriever.index.corpus import read_corpus
from retriever.index.dense import DenseIndex
from retriever.index.encoder import ENCODERS, HASHING, Encoder, load_encoder

_LARGE_BATCH = 1024


def build(corpus: Path, encoder: str, encoder_path: str | None, folder: Path) -> None:
    """An exact index of the corpus, saved."""
    DenseIndex.build(read_corpus(corpus), _loaded(encoder, encoder_path)).save(folder)


@cache
def _loaded(encoder: str, encoder_path: str | None) -> Encoder:
    return load_encoder(encoder, encoder_path)


Encode = Callable[[Sequence[str]], object]


@cache
def _library(encoder: str, encoder_path: str | None, batch_size: int) -> Encode:
    """What the library makes of the queries when it is left alone; of the hashing encoder, which is not its, ours."""
    ours = _loaded(encoder, encoder_path)
    if encoder == HASHING:
        return ours.encode_queries
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(encoder_path or ENCODERS[encoder].model)
    model.max_seq_length = ours.facts["max_length"]
    how = {"prompt": ours.facts["query_prefix"], "normalize_embeddings": ours.facts["normalize"]}
    return partial(model.encode, batch_size=batch_size, show_progress_bar=False, **how)


def encoder_limit(
    queries: Sequence[str], encoder: str, encoder_path: str | None, batch_size: int | None, seconds: float
) -> Work:
    """Large batches, with nobody else at work: the library's with a batch size, or our own encoder's without.

    Loads the model in this process at the first call.
    """
    own = _loaded(encoder, encoder_path).encode_queries
    encode = own if batch_size is None else _library(encoder, encoder_path, batch_size)
    encode(queries[:64])
    done, spent, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        start = done % max(1, len(queries) - _LARGE_BATCH)
        batch = queries[start : start + _LARGE_BATCH]
        encode(batch)
        done += len(batch)
    return Work(done, time.perf_counter() - started, time.process_time() - spent)
