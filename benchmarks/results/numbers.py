"""Numbers as results keep them."""

from __future__ import annotations

DIGITS = 4
"""Significant digits of a number."""


def short(value: float | None) -> float | None:
    """A number with `DIGITS` digits; a count, and what is missing, as it is."""
    return value if value is None or isinstance(value, int) else float(f"{value:.{DIGITS}g}")
