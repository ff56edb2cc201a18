"""The budgets of one episode."""

from __future__ import annotations

from dataclasses import dataclass

from r1_searcher.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Token budgets and search cap."""

    max_searches: int
    """Searches that are answered; one more request ends the episode (SEARCH_LIMIT)."""
    turn_tokens: int
    """New tokens of one turn at most."""
    max_length: int
    """Tokens of the whole episode, prompt and documents included."""
    top_k: int
    """Passages asked for per search."""
    answer_tokens: int = 64
    """Tokens kept free behind documents, so that a full context can still be answered."""

    def __post_init__(self) -> None:
        for name in ("turn_tokens", "max_length", "top_k", "answer_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.max_searches < 0:
            raise InputError(f"max_searches must not be negative, found {self.max_searches}")
        if self.max_length <= self.answer_tokens:
            raise InputError(f"max_length {self.max_length} leaves no room beside answer_tokens {self.answer_tokens}")
