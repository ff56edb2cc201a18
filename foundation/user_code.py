"""Python that a user wrote: a file or a module, run once per process; a failure is one line for the user."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from foundation.errors import InputError
from foundation.files import text_sha256


def load_file(file: Path, called: str) -> ModuleType | None:
    """The module of a Python file; None where there is no such file.

    Args:
        file: its absolute path; the module is known by it.
        called: what messages call it, such as `plugin`.

    Raises:
        InputError: the file fails; the message names the error.
    """
    name = f"r1_searcher_{called}_{text_sha256(str(file))[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        return None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _run(name, partial(spec.loader.exec_module, module), f"{called} {file}")
    return module


def load_module(name: str, called: str) -> ModuleType:
    """An importable module. Raises `InputError` as `load_file` does, also where there is no such module."""
    _run(name, partial(importlib.import_module, name), f"{called} {name}")
    return sys.modules[name]


def _run(name: str, load: Callable[[], object], shown: str) -> None:
    try:
        load()
    except ModuleNotFoundError as error:
        sys.modules.pop(name, None)
        raise InputError(f"{shown}: there is no module {error.name!r} (is its folder on PYTHONPATH?)") from error
    except Exception as error:
        sys.modules.pop(name, None)
        raise InputError(f"the {shown} fails: {type(error).__name__}: {error}") from error
