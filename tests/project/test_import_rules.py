"""Who may import whom, and what the core does without."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from docs.draw_rooms import PAGE, ROOT, Code, circles, drawn, imported, picture, reachable

CODE = Code(ROOT)
MOST_MODULES = 20

BELOW: dict[str, tuple[str, ...]] = {
    "foundation": (),
    "foundation.chat": ("foundation",),
    "retriever": ("foundation",),
    "retriever.wire": ("retriever",),
    "retriever.client": ("retriever.wire",),
    "retriever.index": ("retriever",),
    "retriever.build": ("retriever.index",),
    "retriever.server": ("retriever.index", "retriever.wire"),
    "retriever.simulated": ("foundation.chat", "retriever.wire"),
    "retriever.tools": ("retriever.wire",),
    "retriever.web": ("foundation.chat", "retriever.client", "retriever.index"),
    "retriever.top": ("retriever.build", "retriever.simulated", "retriever.tools", "retriever.web"),
    "r1_searcher.episode": ("retriever",),
    "r1_searcher.reward": ("foundation.chat", "r1_searcher.episode"),
    "r1_searcher.own_agent": ("r1_searcher.episode",),
    "r1_searcher.recipe": ("r1_searcher.reward", "r1_searcher.own_agent"),
    "r1_searcher.run": ("r1_searcher.recipe", "retriever.top"),
    "r1_searcher.memory": ("foundation",),
    "r1_searcher.host.patches": ("r1_searcher.run",),
    "r1_searcher.host": ("r1_searcher.host.patches", "r1_searcher.memory"),
    "r1_searcher.inspection": ("r1_searcher.host",),
    "r1_searcher.launch": ("r1_searcher.inspection",),
    "r1_searcher.doctor": ("r1_searcher.launch",),
    "r1_searcher.inference": ("r1_searcher.launch",),
    "r1_searcher.agent_service": ("r1_searcher.inference",),
    "r1_searcher.top": ("r1_searcher.agent_service",),
    "eval.results": ("r1_searcher.run",),
    "eval.play": ("eval.results", "r1_searcher.inference"),
    "eval.report": ("eval.results",),
    "eval.top": ("eval.play",),
    "data_prep.questions": ("r1_searcher.episode",),
    "data_prep.corpus": ("retriever.index",),
    "data_prep.demonstrations": ("r1_searcher.episode",),
    "data_prep.pretrained": ("r1_searcher.recipe",),
    "data_prep.select": ("data_prep.questions", "eval.play"),
    "data_prep.simulator": ("eval.results", "retriever.index", "retriever.simulated"),
    "data_prep.tiny": ("r1_searcher.run", "retriever.index", "retriever.simulated"),
    "data_prep.top": (
        "data_prep.demonstrations",
        "data_prep.pretrained",
        "data_prep.questions",
        "data_prep.simulator",
        "data_prep.tiny",
        "r1_searcher.launch",
    ),
    "benchmarks.findings": ("benchmarks.results", "data_prep.tiny", "eval.top"),
    "benchmarks.results": ("foundation",),
    "benchmarks.retriever": ("retriever.index", "retriever.wire"),
    "benchmarks.rollout": ("data_prep.tiny", "r1_searcher.inference"),
    "benchmarks.top": (
        "benchmarks.results",
        "benchmarks.retriever",
        "benchmarks.rollout",
        "data_prep.simulator",
        "eval.top",
        "r1_searcher.agent_service",
        "retriever.build",
    ),
}
"""Each room with the rooms right below it. It may import these, and whatever these may import."""

HEAVY = ("torch", "ray", "vllm", "openrlhf", "faiss", "flask", "transformers", "deepspeed", "sentence_transformers")
CORE = ("r1_searcher.episode", "r1_searcher.reward", "r1_searcher.recipe", "r1_searcher.run", "r1_searcher.top")
"""From a row to its reward and its run folder: all of `r1_searcher` but the seam to the host."""

NAMED_IN = {
    "vllm": {"r1_searcher/episode/engine_policy.py", "r1_searcher/inference/engine.py"},
    "openrlhf": set(),
    "ray": set(),
    "torch": {"r1_searcher/run/checkpoints.py"},
    "transformers": set(),
    "faiss": set(),
    "deepspeed": set(),
}
"""Modules of the core, inference and evaluation that may name a heavy library; commands that start the host may too."""


def test_every_room_stands_in_the_table():
    assert set(CODE.rooms) == set(BELOW)


def test_the_table_has_no_circle():
    assert circles(BELOW) == []


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_rooms_below_it(room):
    allowed = reachable(BELOW, room)
    for (importer, lower), imports in CODE.arrows.items():
        if importer == room and lower not in allowed:
            pytest.fail(f"{room} may not import {lower}: " + "; ".join(f"{a} imports {b}" for a, b in sorted(imports)))


def test_every_arrow_is_used():
    allowed = {(room, lower) for room, rooms in BELOW.items() for lower in rooms}
    assert allowed - CODE.arrows.keys() == set()


def test_no_module_imports_itself_by_a_detour():
    assert circles(CODE.imports) == []


def corridors(root: Path) -> list[str]:
    """The folders of Python modules below `root` that hold more than fit on one look."""
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    paths = [*root.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    modules = Counter(path.relative_to(root).parent for path in paths if path.name != "__init__.py")
    return [f"{folder} holds {count} modules" for folder, count in sorted(modules.items()) if count > MOST_MODULES]


def test_no_folder_is_a_corridor(tmp_path: Path):
    assert corridors(ROOT) == [], f"at most {MOST_MODULES} modules fit on one look, tests and scripts included"

    for name in ("__init__", *(f"module_{number}" for number in range(MOST_MODULES))):
        (tmp_path / f"{name}.py").touch()
    assert corridors(tmp_path) == []
    (tmp_path / "one_more.py").touch()
    assert corridors(tmp_path) == [f". holds {MOST_MODULES + 1} modules"]


@pytest.mark.parametrize(
    "folder", [module.path.parent for module in CODE.modules.values() if module.path.name == "__init__.py"], ids=str
)
def test_a_room_says_what_is_in_it(folder):
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert 3 <= len(text.splitlines()) <= 8, f"{folder}: what is here, what to open first, what it may import"
    assert re.search(r"\bimports?\b", text, flags=re.I), folder
    first = re.search(r"\bOpen\b[^.`]*`([^`]+)`", text)
    assert first, f"{folder}: what to open first"
    places = (ROOT / folder / first[1], ROOT / folder / f"{first[1]}.py", ROOT / first[1])
    assert any(place.is_file() for place in places), f"{folder}: {first[1]} does not exist"


def test_the_table_of_the_docs_is_this_one():
    def shown(room: str) -> str:
        return f"`{room.removesuffix('.top')}` (top)" if room.endswith(".top") else f"`{room.replace('.', '/')}`"

    section = PAGE.read_text(encoding="utf-8").split("\n## Rooms\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    table = {shown(room): ", ".join(map(shown, below)) or "nothing of ours" for room, below in BELOW.items()}
    assert {row[0]: row[-1] for row in rows[2:]} == table


def test_the_picture_shows_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert page == drawn(page, picture(CODE)), "the imports between rooms changed: run `python docs/draw_rooms.py`"


def test_a_forbidden_import_an_unknown_room_and_a_circle_are_seen(tmp_path: Path):
    """The rules above read real files; this one shows that they would find something."""
    for name, text in {
        "retriever/passage.py": "from retriever.index.words import words",
        "retriever/index/words.py": "def f():\n    import retriever.passage as p",
        "retriever/attic/old.py": "import foundation.errors",
        "foundation/errors.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = Code(tmp_path)
    assert code.rooms == ["foundation", "retriever.attic", "retriever.index", "retriever"]
    assert code.arrows == {
        ("retriever", "retriever.index"): {("retriever.passage", "retriever.index.words")},
        ("retriever.index", "retriever"): {("retriever.index.words", "retriever.passage")},
        ("retriever.attic", "foundation"): {("retriever.attic.old", "foundation.errors")},
    }
    assert circles(code.imports) == [{"retriever.passage", "retriever.index.words"}]


def test_tests_are_not_imported():
    for module in CODE.modules.values():
        assert not {"tests", "support"} & tops(ROOT / module.path), module.path


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def test_one_module_knows_each_heavy_library():
    for module in CODE.modules.values():
        if module.room in {*CORE, "r1_searcher.inference", "eval.results", "eval.play", "eval.report", "eval.top"}:
            for library in tops(ROOT / module.path) & set(NAMED_IN):
                assert module.path.as_posix() in NAMED_IN[library], f"{module.path} imports {library}"


def test_the_core_imports_without_any_heavy_library():
    light = ("retriever", "retriever.client.http_retriever", "retriever.server.__main__", "retriever.index.bm25")
    core = [module.name for module in CODE.modules.values() if module.room in CORE]
    program = f"""
import importlib, importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocker())
for name in {[*light, *core]!r}:
    importlib.import_module(name)
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"
