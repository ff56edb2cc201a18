"""JSON lines of others: every bad line is reported with its file and number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from foundation.errors import InputError

_Item = TypeVar("_Item")


def iter_parsed(path: Path, parse: Callable[[Mapping[str, Any]], _Item]) -> Iterator[_Item]:
    """Every line's object through `parse`; blank lines, and a last line that is still being written, are left out.

    Args:
        parse: raises `ValueError`, `KeyError` or `TypeError` for an object that it cannot read.

    Raises:
        InputError: the file is missing, or a line cannot be read.
    """
    if not path.is_file():
        raise InputError(f"file not found: {path} (expected JSON lines)")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield parse(_object(line))
            except KeyError as error:
                raise InputError(f"{path}, line {number}: key {error} is missing") from error
            except json.JSONDecodeError as error:
                if line.endswith(b"\n"):
                    raise InputError(f"{path}, line {number}: not JSON ({error.msg})") from error
            except (TypeError, ValueError) as error:
                raise InputError(f"{path}, line {number}: {error}") from error


def _object(line: bytes) -> Mapping[str, Any]:
    found = json.loads(line.decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"a line must be a JSON object, found {type(found).__name__}")
    return found
