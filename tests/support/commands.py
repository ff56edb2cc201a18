"""Commands in this process, as a shell would see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def status_of(main: Callable[[Sequence[str]], int], *arguments: object) -> int:
    """The exit status, whether the command returned it or its parser left."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code
