"""One word, one meaning: no two public classes of the product have one name, and a command has one."""

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


def names_of_command(text: str) -> list[str]:
    """What a module's parser and its `run_command` call the command, where they are given the text itself."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            given = [node.args[0]] if node.func.id == "run_command" and node.args else []
            given += [keyword.value for keyword in node.keywords if keyword.arg == "prog"]
            found += [str(each.value) for each in given if isinstance(each, ast.Constant)]
    return found


def test_a_command_signs_its_usage_and_its_errors_with_one_name() -> None:
    found = {module.path: names_of_command((ROOT / module.path).read_text()) for module in Code(ROOT).modules.values()}
    assert sum(len(names) == 2 for names in found.values()) > 30
    assert {str(path): names for path, names in found.items() if len(set(names)) > 1} == {}
    assert [names for names in found.values() if any(" " in name for name in names)] == [], "no `python -m` before it"
