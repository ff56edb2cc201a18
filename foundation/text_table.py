"""Plain-text tables for the console."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first one to the left and the others to the right; no trailing newline.

    An empty header leaves out the rule below it, too.
    """
    lines = [list(header), *map(list, rows)] if header else list(map(list, rows))
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    if header:
        lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
