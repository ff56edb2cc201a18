"""Scores as plain-text tables for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foundation.text_table import format_table


def scores_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per labelled block of scores; rates in per cent."""
    header = ["", "n", "retrieval %", "format %", "EM %", "cover-EM %", "F1 %", "searches"]
    rates = ("retrieval_rate", "format_rate", "em", "cover_em", "f1")
    lines = []
    for label, block in rows.items():
        searches = f"{block['searches_per_question']:.2f}"
        lines.append([label, str(block["n"]), *(percent(block[name]) for name in rates), searches])
    return format_table(header, lines)


def percent(fraction: float) -> str:
    """A fraction as it stands in our tables: `58.4`."""
    return f"{100 * fraction:.1f}"


def percent_with_interval(fraction: float, interval: Sequence[float]) -> str:
    """`58.4 [54.2, 62.4]`."""
    return f"{percent(fraction)} [{percent(interval[0])}, {percent(interval[1])}]"
