"""What a real run says of the findings: rows, and the section made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs.real_runs import evaluated, trained

from benchmarks.findings import __main__ as command
from benchmarks.findings import real_model, report
from benchmarks.findings.catalogue import FINDINGS
from benchmarks.findings.rows import Rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "real"
    run.mkdir()
    evaluated(run / "cold", False, False, False)
    for name, right in {
        "stage2": (True, True, False),
        "seed1.stage2": (True, True, True),
        "seed5.stage2": (False, False, False),
        "no_mask.stage2": (True, False, False),
        "no_mask_seed1.stage2": (False, False, False),
    }.items():
        evaluated(run / name, *right)
        trained(run / f"{name}_run", 0.25, 0.5)
    return run


def test_a_row_holds_what_the_intervals_are_made_of(folder: Path, tmp_path: Path) -> None:
    assert real_model.store(folder, tmp_path / "results") == 6
    rows = {row["run"]: row for row in real_model.read(tmp_path / "results")}
    assert list(rows)[0] == "cold" and "variant" not in rows["cold"]
    assert rows["cold"]["questions"]["greedy"] == {"F1": [0, 0, 0], "format": [1, 1, 1]}
    row = rows["no_mask_seed1.stage2"]
    assert (row["variant"], row["seed"]) == ("no_mask", 1) and row["scores"]["greedy"]["format_rate"] == 1.0
    assert row["curves"]["stage2"]["answer/f1"] == [0.25, 0.5] and row["curves"]["stage1"] == {}
    assert rows["stage2"]["questions"]["greedy"]["F1"] == [1.0, 1.0, 0.0]


def test_the_sides_are_compared_by_the_seeds_that_both_have(folder: Path, tmp_path: Path) -> None:
    real_model.store(folder, tmp_path)
    text = real_model.section(FINDINGS["mask"], real_model.read(tmp_path))
    assert "Runs: `stage2`, `seed1.stage2`, `no_mask.stage2`, `no_mask_seed1.stage2`." in text
    assert "| masked - not masked | F1, greedy | 3 | 66.7 [" in text, "by question: 2 and 0 of 2, then 1 against 0"
    assert "| documents masked | greedy | 2 | 83.3 | 100.0 | 83.3 | 83.3 | 66.7 to 100.0 |" in text
    assert "| cold start | greedy | 1 |" in text
    for finding in ("stages", "top_k"):
        assert real_model.section(FINDINGS[finding], real_model.read(tmp_path)) == "", "nothing to compare"


def test_the_page_shows_them_after_the_tiny_world_s(folder: Path, filled: Rows, tmp_path: Path) -> None:
    page = tmp_path / "findings.md"
    report.write_page(filled, page)
    assert "on a real model" not in page.read_text()
    results = ["--results", str(tmp_path / "results")]
    assert command.main([*results, "real", str(folder)]) == 0
    assert command.main([*results, "report", "--page", str(page)]) == 0
    text = page.read_text()
    assert text.index("## mask") < text.index("### mask on a real model") and "### stages on" not in text


def test_a_folder_without_a_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = ["--results", str(tmp_path / "results")]
    assert command.main([*results, "real", str(tmp_path)]) == 2
    assert "has no evaluation of cold" in capsys.readouterr().err
    evaluated(tmp_path / "cold", False, True, False)
    assert command.main([*results, "real", str(tmp_path)]) == 2
    assert "holds no finished training" in capsys.readouterr().err and not (tmp_path / "results").exists()
