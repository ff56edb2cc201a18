"""What of a row is compared: a score of what was held out, or a stretch of a training curve."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.errors import InputError


class Measure(typing.Protocol):
    """A number that a row has."""

    @property
    def label(self) -> str:
        """In tables."""

    def of(self, row: Mapping[str, Any]) -> float:
        """Its value in a row. Raises `InputError` where the row does not have it."""


@dataclass(frozen=True)
class HeldOut:
    """A score of the held-out questions, e.g. `f1` or `searches_per_question`."""

    score: str = "f1"
    decoding: str = "sampled"
    corpus: str = "plain"

    @property
    def label(self) -> str:
        """In tables."""
        return f"held-out {_NAMES.get(self.score, self.score)}, {self.decoding}{where(self.corpus)}"

    def of(self, row: Mapping[str, Any]) -> float:
        """Its value in a row."""
        try:
            return float(row["heldout"][self.corpus][self.decoding][self.score])
        except KeyError as missing:
            raise InputError(f"the row of {row.get('arm')}, seed {row.get('seed')}, has no {self.label}") from missing


def where(corpus: str) -> str:
    """What a label says of the corpus; nothing of the world's own."""
    return "" if corpus == "plain" else f", {corpus.replace('_', '-')} corpus"


@dataclass(frozen=True)
class Curve:
    """The mean of a training curve over some of its steps."""

    metric: str
    first: float
    """Where the stretch begins and ends, as shares of the run."""
    last: float

    @property
    def label(self) -> str:
        """In tables."""
        return f"{_NAMES.get(self.metric, self.metric)} in training, {self.first:.0%} to {self.last:.0%} of the steps"

    def of(self, row: Mapping[str, Any]) -> float:
        """Its value in a row."""
        values = row["curves"].get(self.metric, [])
        chosen = [value for value in values[_at(self.first, values) : _at(self.last, values)] if value is not None]
        if not chosen:
            raise InputError(f"the row of {row.get('arm')}, seed {row.get('seed')}, has no {self.label}")
        return float(np.mean(chosen))


def _at(share: float, values: list[float]) -> int:
    return round(share * len(values))


_NAMES = {
    "f1": "F1",
    "em": "EM",
    "answer/f1": "F1",
    "searches_per_question": "searches per question",
    "retrieval/searches": "searches per question",
    "tokens/action": "tokens written",
    "action_tokens": "tokens written",
    "answer_words": "words of an answer",
}

F1 = HeldOut()
GREEDY_F1 = HeldOut(decoding="greedy")
SEARCHES = HeldOut("searches_per_question")
