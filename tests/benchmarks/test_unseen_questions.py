"""Questions that a real run has not seen: neither in a demonstration nor drawn by any of its trainings."""

from __future__ import annotations

import pytest
from support.runs.reports import episode, row, write_run

from benchmarks.unseen_questions import main
from foundation.json_lines import write_json_lines
from r1_searcher.episode.question import read_rows
from r1_searcher.episode.sft_row import SFTRow


@pytest.fixture
def questions():
    return [row(n, f"Where is tower number {n}?") for n in range(6)]


@pytest.fixture
def folder(tmp_path, questions):
    shown = SFTRow((1, 2, 3), ((1, 3),), f"Question: {questions[0].question} Answer: Paris")
    write_json_lines(tmp_path / "cold_start.jsonl", [shown.to_mapping()])
    write_run(tmp_path / "stage1_run", [(1, episode(of=questions[1])), (1, episode(of=questions[1]))])
    write_run(tmp_path / "stage2_run", [(1, episode(of=questions[2]))])
    write_run(tmp_path / "seed1.stage2_run", [(1, episode(of=questions[4]))])
    return tmp_path


def call(folder, questions):
    data, out = folder / "train.jsonl", folder / "unseen.jsonl"
    data.write_text("".join(each.to_json() + "\n" for each in questions))
    return main([str(folder), "--data", str(data), "--out", str(out)]), out


def test_what_was_shown_or_drawn_is_left_out(folder, questions, capsys):
    status, out = call(folder, questions)
    assert status == 0 and read_rows(out) == [questions[3], questions[5]]
    assert "2 of 6 questions; 1 demonstrated, 3 drawn" in capsys.readouterr().out


def test_where_nothing_is_left_or_nothing_was_trained_it_says_so(folder, questions, tmp_path, capsys):
    assert call(folder, questions[:3])[0] == 2 and "all 3 questions" in capsys.readouterr().err
    assert not (folder / "unseen.jsonl").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "cold_start.jsonl").write_bytes((folder / "cold_start.jsonl").read_bytes())
    assert call(other, questions)[0] == 2 and "no training" in capsys.readouterr().err
