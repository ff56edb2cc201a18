"""The pages of measured figures, `docs/results/*.md`: each section is written by its own benchmark."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from foundation.cli import OneLineParser
from foundation.errors import InputError

Run = TypeVar("Run")


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` in place of the section of this name; a new section goes to the end of the page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after, found = pattern.subn(lambda _: section, before)
    page.write_text(after if found else f"{before.rstrip()}\n\n{section}\n", encoding="utf-8")


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
