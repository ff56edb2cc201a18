"""Transcripts in R1-Searcher's published form: the released ones where they are, and a small sample everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_TESTS = Path(__file__).resolve().parents[2]
PUBLISHED = _TESTS.parents[1] / "shared" / "data" / "trajectories"
"""The released trajectories of two runs, beside the checkout where the project is developed."""
SAMPLE = _TESTS / "data" / "trajectories"
"""Made up for these tests; see the README there."""

SIZES = {"hotpotqa_llama": 500, "bamboogle_qwen": 125, "made_up_llama": 20, "made_up_qwen": 20}

needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the released trajectories are not part of the project; none beside this checkout"
)
RUNS = [
    pytest.param("hotpotqa_llama", marks=needs_published),
    pytest.param("bamboogle_qwen", marks=needs_published),
    "made_up_llama",
    "made_up_qwen",
]


def transcript_file(run: str) -> Path:
    return (SAMPLE if run.startswith("made_up") else PUBLISHED) / f"{run}.jsonl"


def server_scores(server: str, run: str) -> list[float]:
    """What a published reward server gives for each row."""
    file = SAMPLE / "server_scores.json" if run.startswith("made_up") else PUBLISHED / "published_scores.json"
    return json.loads(file.read_text(encoding="utf-8"))[f"{server}/{run}"]


def transcripts(run: str) -> list[dict[str, Any]]:
    with transcript_file(run).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
