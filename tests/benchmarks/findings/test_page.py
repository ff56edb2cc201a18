"""The findings' page and list, made of rows alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs.finding_rows import row

from benchmarks.findings import __main__ as command
from benchmarks.findings import report
from benchmarks.findings.arms import find_arm
from benchmarks.findings.rows import Rows
from foundation.errors import InputError


def test_the_page_is_made_of_rows_alone(filled: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paragraphs = tmp_path / "paragraphs"
    paragraphs.mkdir()
    (paragraphs / "mask.md").write_text("Documents drown the answer.\n")
    monkeypatch.setattr(report, "PARAGRAPHS", paragraphs)
    filled.add(find_arm("two_stages"), row("two_stages", 10, 0.1, settings="former"))
    page = tmp_path / "docs" / "findings.md"
    report.write_page(filled, page)
    text = page.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| [mask](#mask)")]
    assert ": **+0.080** held-out F1, sampled |" in line and "**agrees**" in line
    assert "Corrected for 1 primary comparisons (Holm), mask remains below 0.05." in text
    assert "0.431 with the mask" in line and "Documents drown the answer." in text
    assert (
        "- stages: Are two stages better than stage 2 alone? Not run: 20 runs, about " in text
        and "## stages" not in text
    )
    assert "10 runs, seeds 10, 11, 12, 13, 14" in text and "1 stored runs of former settings are left out." in text
    assert "`no_mask/seed12` (0123456789, world abc, base def)" in text
    assert (tmp_path / "docs" / "findings" / "mask.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "docs" / "findings").iterdir()] == ["mask.png"]


def test_scores_stand_for_every_corpus_that_the_finding_is_about(rows: Rows, tmp_path: Path) -> None:
    for arm in ("base", "two_stages", "stage2"):
        for seed in (10, 11):
            rows.add(find_arm(arm), row(arm, seed, 0.5))
    page = tmp_path / "findings.md"
    report.write_page(rows, page)
    stages, others = page.read_text().split("\n## other retrievers\n")
    assert "| two stages | sampled | 2 |" in stages and "web-like corpus | sampled" not in stages
    assert "| two stages, web-like corpus | sampled | 2 |" in others and "noisy corpus | greedy" in others


def test_without_results_there_is_no_page(rows: Rows, tmp_path: Path) -> None:
    page = tmp_path / "findings.md"
    rows.add(find_arm("mask"), row("mask", 10, 0.5))
    with pytest.raises(InputError, match="no result to report"):
        report.write_page(rows, page)
    assert not page.exists() and not page.with_suffix("").exists()


def test_the_list_shows_every_finding_and_its_cost(
    filled: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(tmp_path / "results")]
    assert command.main([*results, "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 14
    (mask,) = [line for line in lines if line.startswith("mask")]
    assert "10/10" in mask and mask.rstrip().endswith("nothing")
    assert command.main([*results, "run", "mask", "--at-once", "2", "--dry-run"]) == 0
    assert "0 runs to play, 2 at once, 10 stored" in capsys.readouterr().err
