"""The budgets of one episode."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Token budgets and search cap."""

    max_searches: int | None
    """Actions that are answered; one more request ends the episode (SEARCH_LIMIT). A correction of a malformed
    action counts as one, as in Search-R1's action budget. None: only the token budgets limit them (ReSearch)."""
    turn_tokens: int
    """New tokens of one turn at most."""
    max_length: int
    """Tokens of the whole episode, prompt and documents included."""
    top_k: int
    """Passages asked for per search."""
    answer_tokens: int = 64
    """Tokens kept free after documents, so that a full context can still be answered."""
    document_tokens: int | None = None
    """Tokens of one block of documents at most, its tags included; None: as many as fit."""

    def __post_init__(self) -> None:
        for name in ("turn_tokens", "max_length", "top_k", "answer_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.document_tokens is not None and self.document_tokens < 1:
            raise InputError(f"document_tokens must be at least 1, found {self.document_tokens}")
        if self.max_searches is not None and self.max_searches < 0:
            raise InputError(f"max_searches must not be negative, found {self.max_searches}")
        if self.max_length <= self.answer_tokens:
            raise InputError(f"max_length {self.max_length} leaves no room beside answer_tokens {self.answer_tokens}")
