"""eval.score: the published form, our own form, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.episodes.transcripts import needs_published, transcript_file

from eval.results.variants import VARIANTS
from eval.score import main, score_file
from r1_searcher.reward.metrics import METRICS, NORMALIZERS


@pytest.mark.parametrize(
    ("run", "n", "scores", "judge"),
    [
        pytest.param("hotpotqa_llama", 500, (58.4, 64.8, 70.6), 74.6, marks=needs_published),
        pytest.param("bamboogle_qwen", 125, (45.6, 52.8, 57.7), 54.4, marks=needs_published),
        ("made_up_llama", 20, (55.0, 75.0, 68.2), 75.0),
        ("made_up_qwen", 20, (55.0, 75.0, 68.2), 75.0),
    ],
)
def test_published_runs_score_as_published(run, n, scores, judge, tmp_path):
    assert main([str(transcript_file(run)), "--json", str(tmp_path / "scores.json")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())["score"]
    assert found["n"] == n
    assert tuple(round(100 * found[key], 1) for key in ("em", "cover_em", "f1")) == scores
    assert round(100 * found["judge"]["accuracy"], 1) == judge
    assert found["metrics"]["r1_searcher.em"] == found["em"]
    for key in ("em", "cover_em", "f1"):
        low, high = found["interval_95"][key]
        assert low < found[key] < high and 0.05 < high - low < (0.25 if n > 100 else 0.5)
    assert found["by_dataset"] == found["by_hops"] == {}


def write(tmp_path: Path, *lines: object) -> Path:
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return file


def test_published_form(tmp_path):
    right = {"question": "q", "answer": "Paris", "pred_ans": " paris.", "judge": "True"}
    none = {"question": "q", "answer": ["Paris", "Lutetia"], "pred_ans": None, "judge": False}
    unjudged = {"question": "q", "answer": "Paris", "pred_ans": "the city of Paris"}
    scores = score_file(write(tmp_path, right, none, "\n", unjudged))["score"]
    assert (scores["n"], scores["no_answer"]) == (3, 1)
    assert scores["em"] == round(1 / 3, 6) and scores["cover_em"] == round(2 / 3, 6)
    assert scores["judge"] == {"n": 2, "accuracy": 0.5, "interval_95": [0.0126, 0.9874]}


def test_the_grid_of_variants_is_whole():
    grid = [f"{n}.{m}" for n in NORMALIZERS for m in ("em", "cover_em", "substring", "f1")]
    assert set(VARIANTS) == {*grid, *METRICS}
    assert all(VARIANTS[name] is metric for name, metric in METRICS.items())


@pytest.mark.parametrize(
    ("found", "gold", "differing"),
    [
        # "U.S." is "us" where punctuation is deleted, "u s" where it becomes a space
        ("US", "U.S.", {"squad.em": 1.0, "r1_searcher.em": 0.0, "deep_researcher.em": 0.0}),
        ("party", "art", {"squad.substring": 1.0, "squad.cover_em": 0.0, "r1_searcher.cover_em": 0.0}),
        ("the Beatles", "Beatles", {"r1_searcher.em": 1.0, "squad.em": 1.0, "deep_researcher.em": 0.0}),
        (
            "no one",
            "no",
            {"r1_searcher.f1": 0.0, "squad.f1": 2 / 3, "squad.f1_yes_no": 0.0, "deep_researcher.f1": 2 / 3},
        ),
        # 1 of 3 words right against 1 of 2 different ones
        ("ha ha no", "ha", {"deep_researcher.f1": 0.5, "deep_researcher.set_f1": 2 / 3}),
    ],
)
def test_where_the_variants_differ(found, gold, differing):
    assert {name: VARIANTS[name](found, (gold,)) for name in differing} == pytest.approx(differing)


def test_groups_by_dataset_and_hops(tmp_path):
    lines = [
        {"question": f"q{n}", "answer": "a", "pred_ans": "a" if n % 2 else "b", "source": source, "hops": hops}
        for n, (source, hops) in enumerate([("hotpotqa", 2), ("hotpotqa", 2), ("musique", 4), ("musique", 2)])
    ]
    scores = score_file(write(tmp_path, *lines, {"question": "q", "answer": "a", "pred_ans": "a"}))["score"]
    assert {name: (block["n"], block["em"]) for name, block in scores["by_dataset"].items()} == {
        "hotpotqa": (2, 0.5),
        "musique": (2, 0.5),
    }
    assert {hops: block["n"] for hops, block in scores["by_hops"].items()} == {"2": 3, "4": 1}
    assert scores["n"] == 5


def test_a_last_line_that_is_still_being_written_is_left_out(tmp_path):
    row = {"question": "q", "answer": "a", "pred_ans": "a"}
    assert score_file(write(tmp_path, row, json.dumps(row)[:20]))["score"]["n"] == 1
    assert score_file(write(tmp_path, row, json.dumps(row)))["score"]["n"] == 2  # whole, only without a line end


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, capsys):
    file = write(tmp_path, {"question": "q", "answer": "a", "pred_ans": "a"})
    assert main([str(file), "--json", str(tmp_path / "none" / "out.json")]) == 2
    printed = capsys.readouterr()
    assert "existing folder" in printed.err and printed.err.count("\n") == 1 and not printed.out


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json\n", "line 1"),
        ("[]\n", "JSON object"),
        ({"question": "q", "answer": "a"}, "pred_ans"),
        ({"question": "q", "answer": "a", "pred_ans": ["a"]}, "string or null"),
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
