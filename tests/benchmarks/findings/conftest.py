"""Stored rows of the findings, and a world that is small."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs.finding_rows import row

from benchmarks.findings.arms import find_arm
from benchmarks.findings.catalogue import SEEDS
from benchmarks.findings.rows import Rows
from data_prep.tiny.world import main as make_world


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path / "results")


@pytest.fixture
def filled(rows: Rows) -> Rows:
    """The mask's five seeds, with a difference of about 0.1."""
    for place, seed in enumerate(SEEDS):
        rows.add(find_arm("mask"), row("mask", seed, 0.70 + place / 100))
        rows.add(find_arm("no_mask"), row("no_mask", seed, 0.60 + place / 50))
    return rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    words = ["--stage1", "5", "--stage2", "60", "--heldout", "10", "--world", "findings", "--passages", "3700"]
    assert make_world(["--out", str(out), *words]) == 0
    return out
