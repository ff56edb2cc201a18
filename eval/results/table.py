"""Plain-text tables for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first one to the left and the others to the right; no trailing newline."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(cells, widths) for cells in (lines[0], rule, *lines[1:]))


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


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
