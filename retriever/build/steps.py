"""Building saved indexes in files: every step leaves whole files, and the same command continues from them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from foundation.workers import finished
from retriever.build.embeddings import SHARD_SIZE, Embeddings, remove_embeddings
from retriever.index import manifest
from retriever.index.bm25 import Bm25Index, bm25_facts, engine_of
from retriever.index.dense import BACKEND as DENSE
from retriever.index.dense import VECTORS_NAME, dense_facts
from retriever.index.encoder import Encoder
from retriever.index.faiss_vectors import LIBRARIES, FaissVectors, SearchSettings
from retriever.index.hybrid import BACKEND as HYBRID
from retriever.index.hybrid import PARTS, finish_hybrid
from retriever.index.postings import Counts, count_words, gather, weigh
from retriever.index.store import PassageStore, content_hash
from retriever.passage import Passage

logger = logging.getLogger(__name__)

EMBEDDINGS_FOLDER = "embeddings"
_COUNTS_FOLDER = ".bm25_counts"
PASSAGES_PER_COUNT = 100_000
"""Passages whose words are counted at once: what a kill may cost, and what is in memory."""
_TRAINED_NAME = "trained.faiss"
_ADDED_NAME = "added.faiss"
SNAPSHOT_S = 600.0
"""Seconds of adding that a kill may cost."""


@dataclass(frozen=True, slots=True)
class DensePlan:
    """How a dense index is made."""

    encoder: Encoder
    factory: str = "Flat"
    settings: SearchSettings = SearchSettings()
    embeddings: Path | None = None
    """Folder of the vectors; default a folder in the index's own."""
    shard_size: int = SHARD_SIZE
    """Passages in a file of vectors."""
    dtype: str = "float32"
    """Number format of the vectors on disk, float32 or float16."""
    keep_embeddings: bool = True
    """Keep the vectors: for `retriever.check`, and for other indexes over them."""


def build_bm25(folder: Path, passages: Sequence[Passage], processes: int) -> None:
    """Build a BM25 index in files; the words of a store are counted by several processes.

    Raises:
        InputError: the folder holds, or was started for, something else.
        IndexMismatch: it holds an index of another format.
        ValueError: no passage has a word.
    """
    facts = bm25_facts()
    work = folder / _COUNTS_FOLDER
    with _building(folder, {"backend": Bm25Index.name, **_corpus_facts(passages), **facts}, work) as is_finished:
        if is_finished:
            return
        work.mkdir(exist_ok=True)
        files = _count_all(work, passages, processes, int(str(facts["title_weight"])))
        shards = tqdm(files, desc="vocabulary", unit=" shards")
        statistics = gather(Counts.load(file) for file in shards)
        if not statistics.vocabulary:
            raise ValueError(f"nothing to index: {len(passages)} passages, none with a word in it")

        def in_file(name: str, length: int, dtype: Any) -> Any:
            return np.lib.format.open_memmap(work / f"{name}.npy", "w+", dtype, (length,))

        shards = tqdm(files, desc="weights", unit=" shards")
        arrays = weigh(
            (Counts.load(file) for file in shards), statistics, float(str(facts["k1"])), float(str(facts["b"])), in_file
        )
        Bm25Index(passages, engine_of(arrays, statistics, facts), facts).save(folder)


def build_dense(folder: Path, passages: Sequence[Passage], plan: DensePlan) -> None:
    """Encode, train and add.

    Raises:
        InputError: the folder holds, or was started for, something else.
        IndexMismatch: it holds an index of another format.
        VectorsError: the factory does not fit the encoder or the number of passages.
    """
    facts = dense_facts(plan.encoder, plan.factory, plan.settings)
    FaissVectors.new(plan.encoder.dim, plan.factory)  # a wrong factory string is to fail before hours of encoding
    where = plan.embeddings or folder / EMBEDDINGS_FOLDER
    work = (folder / _TRAINED_NAME, folder / _ADDED_NAME)
    with _building(folder, {"backend": DENSE, **_corpus_facts(passages), **facts}, *work) as is_finished:
        if not is_finished:
            embeddings = Embeddings.encode(where, passages, plan.encoder, shard_size=plan.shard_size, dtype=plan.dtype)
            _add_all(folder, embeddings, plan.factory).write(folder / VECTORS_NAME)
            manifest.finish_saving(folder, DENSE, passages, facts, LIBRARIES)
        if not plan.keep_embeddings:
            remove_embeddings(where)


def build_hybrid(folder: Path, passages: Sequence[Passage], plan: DensePlan, processes: int) -> None:
    """Build both parts and join them; raises as they do."""
    with _building(folder, {"backend": HYBRID, **_corpus_facts(passages)}):
        build_bm25(folder / PARTS[0], passages, processes)
        build_dense(folder / PARTS[1], passages, plan)
        finish_hybrid(folder)


def _corpus_facts(passages: Sequence[Passage]) -> dict[str, object]:
    return {"count": len(passages), "corpus_sha256": content_hash(passages)}


@contextlib.contextmanager
def _building(folder: Path, facts: Mapping[str, object], *work: Path) -> Iterator[bool]:
    with manifest.build_folder(folder).building(facts, *work) as is_finished:
        if is_finished:
            manifest.read_manifest(folder)  # refuses one of another format
        yield is_finished


def _count_all(work: Path, passages: Sequence[Passage], processes: int, title_weight: int) -> list[Path]:
    starts = range(0, len(passages), PASSAGES_PER_COUNT)
    files = [work / f"counts-{number:05d}.npz" for number in range(len(starts))]
    tasks = [
        _CountTask(start, min(start + PASSAGES_PER_COUNT, len(passages)), file, title_weight)
        for start, file in zip(starts, files, strict=True)
        if not file.is_file()
    ]
    done = len(passages) - sum(task.stop - task.start for task in tasks)
    with tqdm(total=len(passages), initial=done, desc="count words", unit=" passages", unit_scale=True) as bar:
        if isinstance(passages, PassageStore):
            results = finished(partial(_count_of_store, passages.folder), tasks, processes)
        else:
            results = finished(partial(_count, passages), tasks, 1)
        for task, _ in results:
            bar.update(task.stop - task.start)
    return files


@dataclass(frozen=True, slots=True)
class _CountTask:
    start: int
    stop: int
    file: Path
    title_weight: int


def _count_of_store(store: Path, task: _CountTask) -> None:
    _count(PassageStore.open(store), task)


def _count(passages: Sequence[Passage], task: _CountTask) -> None:
    count_words(passages[task.start : task.stop], task.title_weight).save(task.file)


def _add_all(folder: Path, embeddings: Embeddings, factory: str) -> FaissVectors:
    """All vectors, from the latest of: a snapshot of a killed run, a trained index, nothing."""
    vectors = _begun(folder, embeddings, factory)
    saved_at = time.monotonic()
    with tqdm(total=embeddings.count, initial=len(vectors), desc="add", unit=" vectors", unit_scale=True) as bar:
        for number in range(len(vectors) // embeddings.shard_size, embeddings.shards):
            if time.monotonic() - saved_at > SNAPSHOT_S:
                vectors.write(folder / _ADDED_NAME)
                saved_at = time.monotonic()
            before = len(vectors)
            vectors.add(embeddings.matrix(number))
            bar.update(len(vectors) - before)
    return vectors


def _begun(folder: Path, embeddings: Embeddings, factory: str) -> FaissVectors:
    for name in (_ADDED_NAME, _TRAINED_NAME):
        if (folder / name).is_file():
            vectors = FaissVectors.read(folder / name, factory, mapped=False)
            vectors.resume_adding()
            return vectors
    vectors = FaissVectors.new(embeddings.dim, factory)
    if vectors.training_size:
        sample = embeddings.sample(vectors.training_size)
        logger.info("training %s on %d vectors", factory, len(sample))
        vectors.train(sample)
        vectors.write(folder / _TRAINED_NAME)
    return vectors
