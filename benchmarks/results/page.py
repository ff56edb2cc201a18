"""The pages of measured figures, `docs/results/*.md`: each section is written by its own benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from foundation.cli import OneLineParser
from foundation.errors import InputError

Run = TypeVar("Run")


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` in place of the section of this name; a new section goes to the end of the page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    if begin not in before:
        before = f"{before.rstrip()}\n\n{begin}\n{end}\n"
    page.write_text(between_marks(before, begin, end, text.strip()), encoding="utf-8")


def between_marks(page: str, begin: str, end: str, text: str) -> str:
    """The page with this text between its two marks. Raises ValueError where it does not have them."""
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells; no trailing newline."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def section_parser(name: str, description: str | None) -> OneLineParser:
    """Command line `FOLDER --markdown PAGE`."""
    parser = OneLineParser(prog=name, description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--markdown", type=Path, required=True)
    return parser


def section_from_runs(
    name: str,
    read: Callable[[Path], Run],
    markdown: Callable[[Sequence[Run]], str],
    options: argparse.Namespace,
) -> None:
    """Write a section from every finished run `FOLDER/NAME_seedN`; one is finished when it has `final/scores.json`.

    Raises:
        InputError: no run is finished.
    """
    finished = [path.parent.parent for path in sorted(options.folder.glob("*_seed*/final/scores.json"))]
    if not finished:
        raise InputError(f"no finished run in {options.folder}")
    replace_section(options.markdown, name, markdown([read(folder) for folder in finished]))
