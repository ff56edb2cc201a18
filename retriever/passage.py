"""The nouns of retrieval: a passage, a hit, a request for hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrievable paragraph of a corpus."""

    id: str
    """Unique in its corpus."""
    title: str
    """Title of the page it comes from; may be empty."""
    text: str
    """The paragraph itself, without the title."""

    @property
    def titled_text(self) -> str:
        """Title and text in one string, as encoders read it."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, and how well it matched."""

    passage: Passage
    score: float
    """Larger is better. Comparable within one answer only: each index has its own scale."""


Hits = tuple[Hit, ...]
"""The hits of a query: best first, never more than asked for, empty when nothing matches."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One query, and how many passages are wanted at most."""

    query: str
    """Free text. An empty query is legal and finds nothing."""
    top_k: int
    """Most hits wanted, at least 1."""
    context: Mapping[str, object] | None = field(default=None, compare=False)
    """For in-process simulated engines that may look at the episode's row. Never sent over the wire."""

    def __post_init__(self) -> None:
        """Check the types.

        Raises:
            TypeError: the query is not a string or `top_k` not an integer.
            ValueError: `top_k` is below 1.
        """
        if not isinstance(self.query, str):
            raise TypeError(f"SearchRequest.query must be a string, found {type(self.query).__name__}")
        if not isinstance(self.top_k, int) or isinstance(self.top_k, bool):
            raise TypeError(f"SearchRequest.top_k must be an integer, found {self.top_k!r}")
        if self.top_k < 1:
            raise ValueError(f"SearchRequest.top_k must be at least 1, found {self.top_k}")
