"""Numbers as results keep them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

DIGITS = 4
"""Significant digits of a number."""


def short(value: float | None) -> float | None:
    """A number with `DIGITS` digits; a count, and what is missing, as it is."""
    return value if value is None or isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def distance_of_engine(steps: Iterable[Mapping[str, Any]]) -> str:
    """A line about `vllm_kl` in the metrics of these steps; empty where none has it."""
    found = [abs(step["vllm_kl"]) for step in steps if step.get("vllm_kl") is not None]
    if not found:
        return ""
    over = sum(value > 1e-3 for value in found)
    return (
        f"`vllm_kl`, the mean difference of the log-probs of engine and trainer, over {len(found)} steps: median "
        f"{statistics.median(found):.5f}, largest {max(found):.5f}, above 0.001 in {over}.\n"
    )
