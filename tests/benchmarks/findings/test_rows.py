"""Rows of the findings: which are read, and what a killed process leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs.finding_rows import row

from benchmarks.findings.arms import find_arm
from benchmarks.findings.catalogue import FINDINGS, SEEDS
from benchmarks.findings.rows import Rows, curves_of, scores_of
from benchmarks.findings.runner import missing_of
from foundation.errors import InputError


def test_rows_of_other_settings_are_not_read(filled: Rows) -> None:
    arm = find_arm("mask")
    filled.add(arm, row("mask", 10, 0.1, settings="another"))
    assert filled.of(arm)[10]["heldout"]["plain"]["sampled"]["f1"] == 0.70
    assert len(list(filled.all_of(arm))) == 6


def test_a_row_that_a_killed_process_left_broken_is_played_again(filled: Rows, tmp_path: Path) -> None:
    file = tmp_path / "results" / "mask.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    arms = FINDINGS["mask"].arms
    assert [(play.arm.name, play.seed) for play in missing_of(arms, SEEDS, filled)] == [("mask", SEEDS[-1])]
    filled.add(find_arm("mask"), row("mask", SEEDS[-1], 0.9))
    assert not missing_of(arms, SEEDS, filled)


def test_curves_and_scores_are_read_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "answer/f1": 0.123456, "x": 1}\n{"step": 2, "answer/f1": null}\n'
    )
    assert curves_of(tmp_path) == {"answer/f1": [0.1235, None]}
    assert curves_of(tmp_path / "none") == {}
    with pytest.raises(InputError):
        scores_of(tmp_path)
