"""Commands in this process, as a shell would see them."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Sequence
from functools import cache


def main_of(command: str) -> Callable[[Sequence[str]], int]:
    """The function that `python -m COMMAND` runs."""
    for name in (f"{command}.__main__", command):
        try:
            return importlib.import_module(name).main
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise AssertionError(f"there is no command {command}")


@cache
def help_of(command: str) -> str:
    """What `python -m COMMAND --help` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert status_of(main_of(command), "--help") == 0, command
    return printed.getvalue()


def status_of(main: Callable[[Sequence[str]], int], *arguments: object) -> int:
    """The exit status, whether the command returned it or its parser left."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code
