"""A model's forward passes on a CPU: several at once, each on few processors.

One pass over eight short queries cannot keep many processors busy: they wait for each other after every small matrix
product. Passes side by side do not (MiniLM on two processors: a quarter more texts per second).
"""

from __future__ import annotations

import copy
import itertools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.workers import cores

MAX_LANES = 4
"""More would make a single query wait for one slow processor on a large machine."""

Encode = Callable[[Any, list[str]], NDArray[np.float32]]
"""A model and texts that fit into one forward pass to float32 [len(texts), dim]."""
Measure = Callable[[list[str]], Sequence[int]]
"""Texts to the tokens of each; called by one thread at a time."""


class Lanes:
    """Copies of one model that share its weights, each with a tokenizer and a thread of its own.

    Safe to call from several threads: their batches take turns.
    """

    def __init__(
        self, model: Any, encode: Encode, measure: Measure, *, batch_size: int, processors: int | None = None
    ) -> None:
        """Copy the model; threads start when first needed.

        Args:
            measure: called with the texts of more than one pass. Counting tokens, which costs half a percent of a
                pass, leaves a fifth less padding than counting characters does (MiniLM, short queries).
            batch_size: texts per forward pass.
            processors: to be used by all lanes together; default as many as OpenMP would use.
        """
        processors = processors or _openmp_threads()
        self._count = count = min(MAX_LANES, processors)
        self._encode, self._measure, self._batch_size = encode, measure, batch_size
        self._measuring = threading.Lock()
        self._threads_per_lane = max(1, processors // count)
        self._models: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Fast tokenizers keep truncation state and fail with "Already borrowed" when two threads share one.
        weights = {id(each): each for each in itertools.chain(model.parameters(), model.buffers())}
        for _ in range(count):
            self._models.put(copy.deepcopy(model, dict(weights)))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="encode", initializer=self._limit_thread)

    def __len__(self) -> int:
        """Forward passes that may continue at the same time."""
        return self._count

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of at least one text, float32 [len(texts), dim]; texts of like length share a pass."""
        order = self._longest_first(list(texts))
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        passes = [self._pool.submit(self._pass, [texts[place] for place in batch]) for batch in batches]
        found = np.concatenate([each.result() for each in passes])
        vectors = np.empty_like(found)
        vectors[order] = found
        return vectors

    def _longest_first(self, texts: list[str]) -> list[int]:
        if len(texts) <= self._batch_size:
            return list(range(len(texts)))
        with self._measuring:
            tokens = self._measure(texts)
        return sorted(range(len(texts)), key=lambda place: -tokens[place])

    def _pass(self, texts: list[str]) -> NDArray[np.float32]:
        model = self._models.get()
        try:
            return self._encode(model, texts)
        finally:
            self._models.put(model)

    def _limit_thread(self) -> None:
        import torch

        # Of this thread alone, and of threads that have not used torch yet.
        torch.set_num_threads(self._threads_per_lane)


def _openmp_threads() -> int:
    # Not torch.get_num_threads(): in a new thread that is what the lanes before were limited to.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wanted) if wanted.isdecimal() and int(wanted) else cores()
