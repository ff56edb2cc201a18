"""How large a model's weights are."""

from __future__ import annotations

import math
from pathlib import Path

_ROWS = 256
"""Rows read of each matrix: enough for two digits, and a 7B model takes a second."""


def weight_scale(model: str) -> float | None:
    """Root mean square over the matrices of a model folder; None where there are no safetensors files.

    Raises:
        OSError: a file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    squares, count = 0.0, 0
    for file in sorted(Path(model).expanduser().glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    part = tensors.get_slice(name)
                    if len(part.get_shape()) == 2:
                        rows = part[:_ROWS].float()
                        squares += float((rows * rows).sum())
                        count += rows.numel()
        except SafetensorError as error:
            raise OSError(f"{file} is no safetensors file: {error}") from error
    return math.sqrt(squares / count) if count else None
