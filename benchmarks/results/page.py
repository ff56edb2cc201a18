"""The pages of measured figures, `docs/results/*.md`: each section is written by its own benchmark."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Run = TypeVar("Run")


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` in place of the section of this name; a new section goes to the end of the page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after, found = pattern.subn(lambda _: section, before)
    page.write_text(after if found else f"{before.rstrip()}\n\n{section}\n", encoding="utf-8")


def section_from_runs(
    name: str,
    read: Callable[[Path], Run],
    markdown: Callable[[Sequence[Run]], str],
    description: str,
    argv: Sequence[str] | None,
) -> int:
    """Command line `FOLDER --markdown PAGE`: a section from every finished run `FOLDER/NAME_seedN`.

    A run is finished when it has `final/scores.json`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--markdown", type=Path, required=True)
    options = parser.parse_args(argv)
    finished = [path.parent.parent for path in sorted(options.folder.glob("*_seed*/final/scores.json"))]
    if not finished:
        print(f"no finished run in {options.folder}", file=sys.stderr)
        return 2
    replace_section(options.markdown, name, markdown([read(folder) for folder in finished]))
    return 0
