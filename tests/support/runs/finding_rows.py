"""Rows of the findings' arms, as a play stores them."""

from __future__ import annotations

from typing import Any

from benchmarks.findings.arms import find_arm


def row(arm: str, seed: int, f1: float, **changes: Any) -> dict[str, Any]:
    block = {
        "n": 50, "retrieval_rate": 1.0, "format_rate": 1.0, "em": f1, "cover_em": f1, "f1": f1,
        "searches_per_question": 1 + f1, "answer_words": 2.0, "action_tokens": 30.0,
    }  # fmt: skip
    steps = 75
    curves = {
        "answer/f1": [f1 * step / steps for step in range(steps)],
        "format/rate": [1.0] * steps,
        "retrieval/searches": [1 + f1 * step / steps for step in range(steps)],
        "tokens/action": [30.0 + seed % 3 + step / 10 for step in range(steps)],
    }
    return {
        "arm": arm, "seed": seed, "settings": find_arm(arm).digest, "run": f"{arm}/seed{seed}", "commit": "0123456789",
        "world": "abc", "base": "def", "started": "2026-01-01T00:00:00Z",
        "seconds": {"training": 200.0, "evaluation": 40.0}, "at_once": 2, "curves": curves,
        "heldout": {kind: {"greedy": block, "sampled": block} for kind in find_arm(arm).evaluated},
        **changes,
    }  # fmt: skip
