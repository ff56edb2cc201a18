"""eval.score: the published form, our own form, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.score import main, score_file

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "trajectories"


@pytest.mark.parametrize(
    ("run", "n", "scores", "judge"),
    [
        ("hotpotqa_llama", 500, (58.4, 64.8, 70.6), 74.6),
        ("bamboogle_qwen", 125, (45.6, 52.8, 57.7), 54.4),
    ],
)
def test_published_runs_score_as_published(run, n, scores, judge, tmp_path):
    file = PUBLISHED / f"{run}.jsonl"
    if not file.is_file():
        pytest.skip(f"no published trajectories: {PUBLISHED} is not here")
    assert main([str(file), "--json", str(tmp_path / "scores.json")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["n"] == n
    assert tuple(round(100 * found[key], 1) for key in ("em", "cover_em", "f1")) == scores
    assert round(100 * found["judge"]["accuracy"], 1) == judge
    assert found["metrics"]["r1_searcher.em"] == found["em"]


def write(tmp_path: Path, *lines: object) -> Path:
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return file


def test_published_form(tmp_path):
    right = {"question": "q", "answer": "Paris", "pred_ans": " paris.", "judge": "True"}
    none = {"question": "q", "answer": ["Paris", "Lutetia"], "pred_ans": None, "judge": False}
    unjudged = {"question": "q", "answer": "Paris", "pred_ans": "the city of Paris"}
    scores = score_file(write(tmp_path, right, none, "\n", unjudged))
    assert (scores["n"], scores["no_answer"]) == (3, 1)
    assert scores["em"] == round(1 / 3, 6) and scores["cover_em"] == round(2 / 3, 6)
    assert scores["judge"] == {"n": 2, "accuracy": 0.5}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json\n", "line 1"),
        ("[]\n", "JSON object"),
        ({"question": "q", "answer": "a"}, "pred_ans"),
        ({"question": "q", "answer": "a", "pred_ans": 7}, "string or null"),
        ({"question": "q", "answer": "a", "pred_ans": "a", "judge": "perhaps"}, "perhaps"),
        ({"spans": []}, "'row' is missing"),
        ("", "no predictions"),
    ],
)
def test_bad_files_are_one_line_and_status_2(tmp_path, capsys, line, complaint):
    assert main([str(write(tmp_path, line))]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_a_missing_file(tmp_path, capsys):
    assert main([str(tmp_path / "none.jsonl")]) == 2
    assert "not found" in capsys.readouterr().err
