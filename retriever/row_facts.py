"""The question of an episode, from a request's context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The row behind a search, as far as engines may look at it."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Every answer that counts as right."""
    progress: float
    """How far the training is, 0 to 1."""

    @classmethod
    def of(cls, context: Mapping[str, object] | None) -> RowFacts | None:
        """The facts of `{"row": …, "progress": …}`, whose row is any object with these fields; None without a row.

        Raises:
            TypeError: a row without a question or answers, or a progress that is no number: a bug of the caller.
        """
        row = None if context is None else context.get("row")
        if row is None or context is None:
            return None
        question, answers = getattr(row, "question", None), getattr(row, "answers", None)
        if not isinstance(question, str) or isinstance(answers, str) or not isinstance(answers, Sequence):
            raise TypeError(f"a request's row needs a question and answers, found {type(row).__name__}")
        progress = context.get("progress", 0.0)
        if not isinstance(progress, int | float):
            raise TypeError(f"a request's progress must be a number from 0 to 1, found {progress!r}")
        return cls(str(getattr(row, "id", question)), question, tuple(map(str, answers)), float(progress))
