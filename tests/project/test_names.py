"""One word, one meaning: no two public classes of the product have one name."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from docs.draw_rooms import ROOT, Code


def public_classes(path: Path) -> list[str]:
    """Names of the classes at the top level of a module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def twice(root: Path) -> list[str]:
    """The names of more than one class of the packages under `root`."""
    found = Counter(name for module in Code(root).modules.values() for name in public_classes(root / module.path))
    return sorted(name for name, count in found.items() if count > 1)


def test_a_class_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert twice(ROOT) == []

    for package in ("foundation", "eval"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("class Reply:\n    pass\n\n\nclass _Own:\n    pass\n")
    assert twice(tmp_path) == ["Reply"]
