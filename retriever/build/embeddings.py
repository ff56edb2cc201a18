"""A corpus's vectors on disk, in shards: encoding continues where a killed process stopped.

    FOLDER/embeddings.json      what was encoded with what; another corpus or encoder is refused
    FOLDER/vectors-00000.npy    float32 or float16 [shard_size, dim], passages in corpus order

One folder serves any number of indexes over the same corpus and encoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from foundation.errors import InputError
from foundation.files import draft, read_json, write_json
from foundation.owned_folder import held
from retriever.index.encoder import Encoder, on_every_gpu, takes_long_calls
from retriever.index.manifest import IndexMismatch, check_facts
from retriever.index.store import content_hash
from retriever.passage import Passage

EMBEDDINGS_NAME = "embeddings.json"
SHARD_SIZE = 65_536
PASSAGES_PER_CALL = 4_096
"""Texts that an encoder is given at once."""


class Embeddings:
    """Vectors of a corpus, a shard at a time."""

    def __init__(self, folder: Path, facts: Mapping[str, object]) -> None:
        """Use `open` or `encode`."""
        self.folder = folder
        self.facts = facts
        self.count, self.shard_size = _whole(facts, "count"), _whole(facts, "shard_size")
        self.dim = _whole(facts, "dim")

    @classmethod
    def open(cls, folder: Path) -> Embeddings:
        """Open what `encode` finished.

        Raises:
            IndexMismatch: not such a folder, or an unfinished one.
        """
        try:
            found = cls(folder, read_json(folder / EMBEDDINGS_NAME))
        except InputError as error:
            raise IndexMismatch(f"{folder} holds no embeddings: {error}") from error
        except (ValueError, KeyError) as error:
            raise IndexMismatch(f"{folder} holds no embeddings: cannot use {EMBEDDINGS_NAME} ({error})") from error
        missing = [number for number in range(found.shards) if not found.file(number).is_file()]
        if missing:
            raise IndexMismatch(f"{folder} is unfinished: {len(missing)} of {found.shards} shards are missing")
        return found

    @classmethod
    def encode(
        cls,
        folder: Path,
        passages: Sequence[Passage],
        encoder: Encoder,
        *,
        shard_size: int = SHARD_SIZE,
        dtype: str = "float32",
    ) -> Embeddings:
        """Encode what is not there yet.

        Raises:
            IndexMismatch: the folder holds vectors of another corpus, encoder, shard size or dtype.
            FolderBusy: another process is at work in the folder.
            InputError: what says of which these vectors are cannot be read.
        """
        corpus = {"count": len(passages), "corpus_sha256": content_hash(passages)}
        facts = {**corpus, **encoder.facts, "shard_size": shard_size, "dtype": dtype}
        found = cls(folder, facts)
        with held(folder):
            if (folder / EMBEDDINGS_NAME).is_file():
                check_facts(folder, read_json(folder / EMBEDDINGS_NAME), facts)
            else:
                write_json(folder / EMBEDDINGS_NAME, facts)
            missing = [number for number in range(found.shards) if not found.file(number).is_file()]
            left = sum(len(range(*found.bounds(number))) for number in missing)
            bar = tqdm(
                total=len(passages), initial=len(passages) - left, desc="encode", unit=" passages", unit_scale=True
            )
            with bar, on_every_gpu(encoder):
                for number in missing:
                    found._encode_shard(number, passages, encoder, bar)
        return found

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.count // self.shard_size)

    def file(self, number: int) -> Path:
        """Path of a shard."""
        return self.folder / f"vectors-{number:05d}.npy"

    def bounds(self, number: int) -> tuple[int, int]:
        """First position of a shard, and the one after its last."""
        return number * self.shard_size, min((number + 1) * self.shard_size, self.count)

    def matrix(self, number: int) -> NDArray[np.float32]:
        """The vectors of a shard, float32 [passages of the shard, dim]."""
        return np.asarray(np.load(self.file(number), mmap_mode="r"), dtype=np.float32)

    def matrices(self) -> Iterator[NDArray[np.float32]]:
        """All shards in order, one in memory at a time."""
        return map(self.matrix, range(self.shards))

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors at ascending positions, float32 [positions, dim]."""
        pieces = []
        for number in range(self.shards):
            start, stop = self.bounds(number)
            inside = positions[(positions >= start) & (positions < stop)] - start
            if len(inside):
                pieces.append(np.asarray(np.load(self.file(number), mmap_mode="r")[inside], dtype=np.float32))
        return np.concatenate(pieces) if pieces else np.zeros((0, self.dim), np.float32)

    def sample(self, size: int, seed: int = 0) -> NDArray[np.float32]:
        """Random vectors, the same for the same seed; all of them if `size` is not below the count."""
        if size >= self.count:
            return self.rows(np.arange(self.count))
        return self.rows(np.sort(np.random.default_rng(seed).choice(self.count, size, replace=False)))

    def _encode_shard(self, number: int, passages: Sequence[Passage], encoder: Encoder, bar: Any) -> None:
        start, stop = self.bounds(number)
        vectors = np.empty((stop - start, self.dim), dtype=str(self.facts["dtype"]))
        per_call = stop - start if takes_long_calls(encoder) else PASSAGES_PER_CALL
        for first in range(start, stop, per_call):
            batch = passages[first : min(first + per_call, stop)]
            vectors[first - start : first - start + len(batch)] = encoder.encode_passages(
                [p.titled_text for p in batch]
            )
            bar.update(len(batch))
        with draft(self.file(number)) as temporary, temporary.open("wb") as file:
            np.save(file, vectors)


def remove_embeddings(folder: Path) -> None:
    """Delete what `encode` wrote, and nothing else; the folder, too, if that leaves it empty. Raises `FolderBusy`."""
    if not folder.is_dir():
        return
    with held(folder):
        for path in (*folder.glob("vectors-*.npy"), folder / EMBEDDINGS_NAME):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else is in it
        folder.rmdir()


def _whole(facts: Mapping[str, object], key: str) -> int:
    value = facts[key]
    if not isinstance(value, int):
        raise ValueError(f"{key} is {value!r}, expected a number")
    return value
