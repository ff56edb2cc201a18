"""Who may import whom, and what the core does without."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOWER = {
    "retriever": set(),
    "r1_searcher": {"retriever"},
    "eval": {"retriever", "r1_searcher"},
    "data_prep": {"retriever", "r1_searcher", "eval"},
}
HEAVY = (
    "torch",
    "ray",
    "vllm",
    "openrlhf",
    "faiss",
    "flask",
    "transformers",
    "deepspeed",
    "sentence_transformers",
)
ALLOWED = {
    "openrlhf": {"r1_searcher/host/agent.py"},
    "vllm": {"r1_searcher/episode/engine_policy.py"},
    "ray": set(),
    "torch": set(),
    "transformers": set(),
    "faiss": set(),
    "deepspeed": set(),
}
"""Modules of the core (`r1_searcher` but `host`) that name these; `eval/play/engine.py` names vllm too."""

SEAM = (
    "r1_searcher/host/",
    "r1_searcher/doctor/",
    "r1_searcher/train.py",
    "r1_searcher/sft.py",
    "r1_searcher/serve.py",
    "r1_searcher/host/agent.py",
)
"""What is no core: it knows the host, or the installed stack."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of everything that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("package", [name for name in LOWER if (ROOT / name).is_dir()])
def test_packages_import_downwards_only(package):
    for path in sources(package):
        above = tops(path) & set(LOWER) - LOWER[package] - {package}
        assert not above, f"{path.relative_to(ROOT)} imports {', '.join(above)}"
        assert "tests" not in tops(path) and "fakes" not in tops(path)


def test_the_core_does_not_know_the_host_seam():
    """Only the trainer, its two ends in the host, and what checks or evaluates them look into `r1_searcher.host`."""
    for package in ("retriever", "r1_searcher"):
        for path in sources(package):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(SEAM):
                assert not any(i.startswith("r1_searcher.host") for i in imported(path)), name


def test_one_core_module_knows_each_heavy_library():
    for path in sources("r1_searcher"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("r1_searcher/host/", "r1_searcher/doctor/")):
            continue
        for library in tops(path) & set(ALLOWED):
            assert name in ALLOWED[library], f"{name} imports {library}"


def test_only_the_engine_of_the_evaluation_imports_vllm():
    for path in sources("eval"):
        assert "openrlhf" not in tops(path), path
        if path.name != "engine.py":
            assert "vllm" not in tops(path), path


LIGHT = ("retriever.client.http_retriever", "retriever.server.__main__", "retriever.index.bm25")


def core_modules() -> list[str]:
    paths = [path for path in (ROOT / "r1_searcher").glob("*.py") if path.stem not in ("agent", "__init__", "__main__")]
    return sorted(f"r1_searcher.{path.stem}" for path in paths)


def test_the_core_imports_without_any_heavy_library():
    program = f"""
import importlib, importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocker())
for name in {["retriever", *LIGHT, *core_modules()]!r}:
    importlib.import_module(name)
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"
