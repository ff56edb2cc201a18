"""The page of measured figures, ``docs/results.md``: one section per benchmark, each written by that benchmark alone."""

from __future__ import annotations

import re
from pathlib import Path


def replace_section(page: Path, name: str, text: str) -> None:
    """Put ``text`` in place of the section of this name; a new section goes to the end of the page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(before):
        after = pattern.sub(lambda _: section, before)
    else:
        after = f"{before.rstrip()}\n\n{section}\n"
    page.write_text(after, encoding="utf-8")
