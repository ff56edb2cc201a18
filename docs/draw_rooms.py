"""Draw the rooms of the code and who imports whom, from the code itself.

`python docs/draw_rooms.py` rewrites the picture in docs/architecture.md; tests/project/test_import_rules.py fails while
the picture and the code differ. A room is a folder of modules. The top level of a package counts as two rooms: its
nouns, which its other rooms build on, and what a user names (`top`), which stands above them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from benchmarks.results.page import between_marks

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- rooms:begin -->", "<!-- rooms:end -->"

PACKAGES = ("foundation", "retriever", "r1_searcher", "eval", "data_prep", "benchmarks")
"""From the lowest to the highest."""

NOUNS = {"retriever": ("errors", "interface", "passage", "row_facts", "written")}
"""Top-level modules that the rooms of their own package import; its `__init__` is one more."""

TOP = "top"
ONE_ROOM = ("foundation",)
"""Packages whose top level is one room, below the rooms inside them."""


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name and its path in the repository."""

    name: str
    path: Path

    @property
    def room(self) -> str | None:
        """`retriever.index`; for the top level `retriever` (nouns) or `retriever.top`.

        None for a package's `__init__` where the package has no nouns: it holds a docstring and a version.
        """
        package, *inside = self.path.with_suffix("").parts
        if len(inside) > 1:
            return ".".join([package, *inside[:-1]])
        if package in ONE_ROOM or inside[0] in NOUNS.get(package, ()):
            return package
        if inside == ["__init__"]:
            return package if package in NOUNS else None
        return f"{package}.{TOP}"


@dataclass(frozen=True)
class Code:
    """The modules of all packages under `root`."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Module]:
        """By dotted name; a package's name stands for its `__init__`."""
        paths = [path.relative_to(self.root) for name in PACKAGES for path in sorted((self.root / name).rglob("*.py"))]
        named = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
        return {name: Module(name, path) for name, path in named.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Which modules of this project each module imports, anywhere in it."""
        return {
            module.name: {found for name in imported(self.root / module.path) if (found := self._module_of(name))}
            - {module.name}
            for module in self.modules.values()
        }

    @cached_property
    def arrows(self) -> dict[tuple[str, str], set[tuple[str, str]]]:
        """Room → room, with the imports that make the arrow."""
        arrows: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for importer, names in self.imports.items():
            for name in names:
                above, below = self.modules[importer].room, self.modules[name].room
                if above and below and above != below:
                    arrows.setdefault((above, below), set()).add((importer, name))
        return arrows

    @cached_property
    def rooms(self) -> list[str]:
        """Every room, package by package."""
        return list(dict.fromkeys(module.room for module in self.modules.values() if module.room))

    def _module_of(self, name: str) -> str | None:
        """The longest part of a dotted name that is a module of this project."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name or None


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of everything that a file imports, anywhere in it."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.expr):  # an import is a statement, and in no expression
            waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def reachable(below: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """Everything that can be reached from `start`; `start` itself only where there is a circle."""
    found: set[str] = set()
    waiting = list(below.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(below.get(name, ()))
    return found


def circles(below: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Groups of names that can all be reached from one another."""
    above = {name: reachable(below, name) for name in below}
    groups = {frozenset(other for other in above[name] if name in above.get(other, ())) for name in above}
    return [set(group) for group in groups if group]


def direct(below: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The arrows without those that follow from others."""
    return {
        name: sorted(other for other in lower if not any(other in reachable(below, via) for via in lower))
        for name, lower in below.items()
    }


def picture(code: Code) -> str:
    """The rooms as a Mermaid diagram: a box per package, arrows from importer to imported."""
    below: dict[str, set[str]] = {room: set() for room in code.rooms}
    for importer, name in code.arrows:
        below[importer].add(name)
    lines = ["```mermaid", "flowchart TD"]
    for package in reversed(PACKAGES):
        lines.append(f"  subgraph {package}_[{package}]")
        for room in (room for room in code.rooms if room.split(".")[0] == package):
            label = room.partition(".")[2] or ("nouns" if package in NOUNS else package)
            lines.append(f"    {_identity(room)}[{label}]")
        lines.append("  end")
    for room, lower in direct(below).items():
        lines.extend(f"  {_identity(room)} --> {_identity(other)}" for other in lower)
    return "\n".join([*lines, "```"])


def _identity(room: str) -> str:
    return room.replace(".", "_")


def drawn(page: str, picture: str) -> str:
    """The page with this picture between its two marks."""
    return between_marks(page, BEGIN, END, picture)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8"), picture(Code(ROOT))), encoding="utf-8")
