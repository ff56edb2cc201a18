"""`after_import`: once, after the import, and the module is as if nobody had been there."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys

import pytest

from r1_searcher.host.import_hook import _Finder, after_import


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A folder on the path with a few modules; what the test imports or hooks is undone."""
    (tmp_path / "hooked_plain.py").write_text("VALUE = 1\ndef f():\n    return VALUE\n")
    (tmp_path / "hooked_broken.py").write_text("raise RuntimeError('broken')\n")
    package = tmp_path / "hooked_package"
    package.mkdir()
    (package / "__init__.py").write_text("from hooked_package import inner\n")
    (package / "inner.py").write_text("VALUE = 2\n")
    (package / "data.txt").write_text("data")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    before, finders = set(sys.modules), list(sys.meta_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("hooked_"):
            del sys.modules[name]
    sys.meta_path[:] = finders


def test_a_patch_runs_once_after_the_import(modules):
    seen = []
    after_import("hooked_plain", lambda module: seen.append((module.__name__, module.VALUE)))
    assert seen == [] and "hooked_plain" not in sys.modules
    import hooked_plain

    importlib.import_module("hooked_plain")
    assert seen == [("hooked_plain", 1)] and hooked_plain.f() == 1


def test_several_patches_run_in_their_order(modules):
    seen = []
    for number in range(3):
        after_import("hooked_plain", lambda module, number=number: seen.append(number))
    importlib.import_module("hooked_plain")
    assert seen == [0, 1, 2]


def test_an_imported_module_is_patched_now(modules):
    importlib.import_module("hooked_plain")
    seen = []
    after_import("hooked_plain", seen.append)
    assert seen == [sys.modules["hooked_plain"]]


def test_the_module_keeps_its_own_loader(modules):
    after_import("hooked_package", lambda module: None)
    module = importlib.import_module("hooked_package")
    assert isinstance(module.__loader__, importlib.machinery.SourceFileLoader)
    assert module.__spec__.loader is module.__loader__
    assert importlib.resources.files("hooked_package").joinpath("data.txt").read_text() == "data"
    assert importlib.util.find_spec("hooked_package").loader is module.__loader__


def test_a_submodule_that_its_package_imports(modules):
    seen = []
    after_import("hooked_package.inner", lambda module: seen.append(module.VALUE))
    importlib.import_module("hooked_package")
    assert seen == [2]


def test_a_module_that_is_never_imported_or_missing_costs_nothing(modules):
    after_import("hooked_nowhere", lambda module: pytest.fail("there is no such module"))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hooked_nowhere")


def test_asking_whether_a_module_exists_does_not_lose_its_patch(modules):
    """Libraries ask `find_spec("torch")` long before they import it."""
    seen = []
    after_import("hooked_plain", seen.append)
    assert importlib.util.find_spec("hooked_plain") is not None
    importlib.import_module("hooked_plain")
    assert seen == [sys.modules["hooked_plain"]]


def test_a_failed_import_raises_its_own_error_and_does_not_lose_the_patch(modules):
    seen = []
    after_import("hooked_broken", seen.append)
    with pytest.raises(RuntimeError, match="broken"):
        importlib.import_module("hooked_broken")
    (modules / "hooked_broken.py").write_text("VALUE = 'mended, and of another length'\n")
    importlib.invalidate_caches()
    importlib.import_module("hooked_broken")
    assert seen == [sys.modules["hooked_broken"]]


def test_one_finder_serves_all(modules):
    after_import("hooked_plain", lambda module: None)
    after_import("hooked_package", lambda module: None)
    assert sum(isinstance(finder, _Finder) for finder in sys.meta_path) == 1
