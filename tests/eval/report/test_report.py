"""The quickstart's summary and table, from a folder as the quickstart leaves it."""

from __future__ import annotations

import json

import pytest

from eval.quickstart_report import main
from eval.results.summary import SCORES


@pytest.fixture
def folder(tmp_path):
    values = {"base": 0.1, "stage1": 0.3, "stage2": 0.9}
    for model, value in values.items():
        block = {"n": 250, **dict.fromkeys(SCORES, value)}
        blocks = {
            decoding: block | {"f1": value - drop, "by_hops": {"1": block, "2": block}, "reward": 1.0}
            for decoding, drop in (("greedy", 0.0), ("sampled", 0.05))
        }
        (tmp_path / model).mkdir()
        (tmp_path / model / "scores.json").write_text(json.dumps(blocks | {"provenance": {}}))
    (tmp_path / "seconds.json").write_text(json.dumps({"stage1": 10.4, "stage2": 20.6}))
    return tmp_path


def without_provenance(file):
    scores = json.loads(file.read_text())
    del scores["provenance"]
    return scores


def test_summary_and_table(folder, capsys):
    assert main([str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary) == ["base", "stage1", "stage2", "seconds"]
    assert summary["base"] == without_provenance(folder / "base" / "scores.json")
    assert (summary["stage2"]["greedy"]["f1"], summary["stage2"]["sampled"]["f1"]) == (0.9, 0.85)
    assert summary["seconds"] == {"stage1": 10.4, "stage2": 20.6}
    printed = capsys.readouterr().out
    assert "held-out questions, greedy" in printed and "held-out questions, sampled" in printed


def test_seconds_of_resumed_phases_add_up(folder):
    (folder / "seconds.tsv").write_text("stage1\t10\nstage1\t5\nstage2\t7\n")
    assert main([str(folder)]) == 0
    assert json.loads((folder / "summary.json").read_text())["seconds"] == {"stage1": 15.0, "stage2": 7.0}


def test_greedy_alone_is_enough(folder, capsys):
    for model in ("base", "stage1", "stage2"):
        file = folder / model / "scores.json"
        file.write_text(json.dumps({"greedy": json.loads(file.read_text())["greedy"]}))
    assert main([str(folder)]) == 0
    assert "sampled" not in capsys.readouterr().out
    assert "sampled" not in json.loads((folder / "summary.json").read_text())["base"]


def test_scores_of_an_older_eval_score_are_refused(folder, capsys):
    (folder / "base" / "scores.json").write_text(json.dumps({"n": 250, "f1": 0.5, "decoding": "greedy"}))
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "base/scores.json" in error and "older eval.score" in error and error.count("\n") == 1


@pytest.mark.parametrize("missing", ["base/scores.json", "stage2/scores.json", "seconds.json"])
def test_a_missing_file_is_one_line_and_status_2(folder, capsys, missing):
    (folder / missing).unlink()
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert missing in error and error.count("\n") == 1
    assert not (folder / "summary.json").exists()
