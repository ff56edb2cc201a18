"""eval.compare: common questions, paired differences, costs, and what makes runs hard to compare."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.episodes.evaluations import Run, policy_of, retriever_of, right, rows, wrong
from support.episodes.fakes import ask, passages, say
from support.runs.reports import episode, write_evaluation, write_run

from eval.compare import main
from eval.results.folder import EvaluationFolder
from eval.results.intervals import paired_difference
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Trajectory
from retriever.errors import RetrieverUnavailable


def published(folder: Path, name: str, answers: Mapping[str, str | None], **extra: Any) -> Path:
    file = folder / name
    lines = [{"question": q, "answer": "gold", "pred_ans": found, **extra} for q, found in answers.items()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def compared(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    out = tmp_path / "out.json"
    assert main([*map(str, arguments), "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_wins_losses_and_differences_on_common_questions(tmp_path, capsys):
    first = published(tmp_path, "a.jsonl", {"q1": "gold", "q2": "no", "q3": "gold", "q4": "gold", "only a": "gold"})
    second = published(tmp_path, "b.jsonl", {"q4": "gold", "q2": "gold", "q1": None, "q3": "gold dust", "only b": "no"})
    found = compared(tmp_path, first, second)
    assert (found["n"], [run["n"] for run in found["runs"]]) == (4, [5, 5])
    assert [run["scores"]["em"] for run in found["runs"]] == [0.75, 0.5]
    (pair,) = found["pairs"]
    # F1: q1 1 -> 0, q2 0 -> 1, q3 1 -> 2/3, q4 1 -> 1
    assert (pair["wins"], pair["losses"], pair["ties"]) == (["q2"], ["q1", "q3"], 1)
    assert pair["difference"]["f1"]["mean"] == pytest.approx(-1 / 12, abs=1e-6)
    assert pair["difference"]["em"]["mean"] == -0.25
    by_em = compared(tmp_path, first, second, "--metric", "em")["pairs"][0]
    assert (by_em["wins"], by_em["losses"]) == (["q2"], ["q1", "q3"])
    printed = capsys.readouterr().out
    assert "only 4 of 5 questions of A are in all runs" in printed and "B - A, f1" in printed


def test_three_runs_give_every_pair(tmp_path):
    files = [published(tmp_path, f"{n}.jsonl", {"q1": "gold", "q2": "gold" if n else "no"}) for n in range(3)]
    pairs = compared(tmp_path, *files)["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [pair["difference"]["em"]["mean"] for pair in pairs] == [0.5, 0.5, 0.0]


def test_the_judge_is_a_metric_where_everything_is_judged(tmp_path, capsys):
    first = published(tmp_path, "a.jsonl", {"q1": "x", "q2": "y"}, judge="True")
    second = published(tmp_path, "b.jsonl", {"q1": "gold", "q2": "gold"}, judge="False")
    found = compared(tmp_path, first, second, "--metric", "judge")
    assert found["pairs"][0]["difference"]["judge"]["mean"] == -1.0
    third = published(tmp_path, "c.jsonl", {"q1": "gold", "q2": "gold"})
    assert main([str(first), str(third), "--metric", "judge"]) == 2
    assert "verdict" in capsys.readouterr().err
    assert "judge" not in compared(tmp_path, first, third)["runs"][0]["scores"]


def test_questions_that_occur_twice_are_paired_in_order(tmp_path):
    lines = [{"question": "q", "answer": gold, "pred_ans": "gold"} for gold in ("gold", "other")]
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compared(tmp_path, tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert found["n"] == 2 and found["pairs"][0]["ties"] == 2
    assert not any("gold answers" in line for line in found["warnings"])


ONE_TEXT = {name: QARow(name, "Where is the tower?", (gold,)) for name, gold in (("a", "Paris"), ("b", "London"))}


def says_paris(name: str) -> Trajectory:
    """Right for `a`, wrong for `b`."""
    return episode([say("Paris")], of=ONE_TEXT[name])


def search_failed(name: str) -> Trajectory:
    return episode([ask("tower")], RetrieverUnavailable("down"), of=ONE_TEXT[name])


def test_questions_of_one_text_are_paired_by_id_whichever_was_answered_first(tmp_path):
    first = write_evaluation(tmp_path / "first", [says_paris("a"), says_paris("b")])
    second = write_evaluation(tmp_path / "second", [says_paris("b"), says_paris("a")])
    found = compared(tmp_path, first, second)
    (pair,) = found["pairs"]
    assert (pair["wins"], pair["losses"], pair["ties"]) == ([], [], 2)
    assert not any("gold answers" in line for line in found["warnings"])


def test_a_question_that_failed_keeps_its_place_among_those_of_its_text(tmp_path):
    first = write_evaluation(tmp_path / "first", [says_paris("a"), says_paris("b")])
    second = write_evaluation(tmp_path / "second", [search_failed("a"), says_paris("b")])
    found = compared(tmp_path, first, second)
    assert (found["n"], found["pairs"][0]["ties"]) == (1, 1)
    assert [run["scores"]["em"] for run in found["runs"]] == [0.0, 0.0]


def test_a_question_that_a_training_asked_again_has_the_place_of_its_last_attempt(tmp_path):
    first = write_evaluation(tmp_path / "first", [says_paris("a")])
    second = write_run(tmp_path / "second", [(1, search_failed("a")), (1, says_paris("a"))])
    (log,) = (second / "trajectories").iterdir()
    assert compared(tmp_path, first, log)["pairs"][0]["ties"] == 1


def evaluation(folder: Path, script, *results, settings: Mapping[str, Any]) -> Path:
    questions = rows(6)
    folder.mkdir()
    EvaluationFolder(folder).claim(settings)
    asyncio.run(Run(folder, questions, policy_of(questions, script), retriever_of(*results), concurrency=1)())
    return folder


SETTINGS = {
    "limits": {"top_k": 3, "max_searches": 8},
    "model": "m",
    "decodings": {"greedy": {"temperature": 0.0}},
    "retriever": {"index": "bm25", "passages": 10},
    "recipe": {"name": "r", "protocol": "p"},
}


def test_own_runs_with_costs_and_a_warning_per_difference(tmp_path):
    other = {
        **SETTINGS,
        "limits": {"top_k": 5, "max_searches": 8},
        "model": "n",
        "retriever": {"index": "dense:e5", "passages": 10},
        "versions": {"vllm": "0.29.0"},
    }
    found_passages = passages("a fact")
    first = evaluation(tmp_path / "a", wrong, settings=SETTINGS)
    results = (found_passages, RetrieverUnavailable("down"), found_passages)
    second = evaluation(tmp_path / "b", right, *results, settings=other)
    found = compared(tmp_path, first, second)
    a, b = found["runs"]
    assert found["n"] == 5 and b["retriever_errors"] == 1  # a failed search says nothing about the policy
    assert (a["searches"], b["searches"]) == (0.0, 1.0)
    assert (a["by_searches"], b["by_searches"]) == ({"0": {"n": 5, "f1": 0.0}}, {"1": {"n": 5, "f1": 1.0}})
    assert a["document_tokens"] == 0 < b["document_tokens"] and a["action_tokens"] > 0
    assert found["pairs"][0]["difference"]["f1"] == {"mean": 1.0, "interval_95": [0.262, 1.0], "p_value": 0.0625}
    assert found["warnings"] == [
        "only 5 of 6 questions of A are in all runs",
        "limits.top_k differs: A 3, B 5",
        "retriever.index differs: A bm25, B dense:e5",
        "versions.vllm differs: A none, B 0.29.0",
    ]


def test_a_decoding_can_be_chosen(tmp_path, capsys):
    first = evaluation(tmp_path / "a", right, settings=SETTINGS)
    assert compared(tmp_path, first, first, "--decoding", "greedy")["n"] == 6
    assert main([str(first), str(first), "--decoding", "sampled"]) == 2
    assert "found: greedy" in capsys.readouterr().err


def test_runs_without_provenance_are_named(tmp_path):
    files = [published(tmp_path, f"{n}.jsonl", {"q1": "gold"}) for n in range(2)]
    warnings = compared(tmp_path, *files)["warnings"]
    assert [line[:15] for line in warnings] == ["A says nothing ", "B says nothing "]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a.jsonl"], "2 to 26 runs"),
        (["a.jsonl", "none.jsonl"], "not found"),
        (["a.jsonl", "b.jsonl"], "no question is answered in all"),
        (["a.jsonl", "a.jsonl", "--metric", "bleu"], "unknown metric"),
        (["a.jsonl", "a.jsonl", "--json", "none/out.json"], "existing folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, complaint, tmp_path, monkeypatch, capsys):
    published(tmp_path, "a.jsonl", {"q1": "gold"})
    published(tmp_path, "b.jsonl", {"q2": "gold"})
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_pairing_is_stronger_than_two_intervals():
    """Two runs that differ on few questions: what makes questions hard for both cancels out."""
    first = [float(n % 2) for n in range(200)]
    second = [1.0 if n < 12 else value for n, value in enumerate(first)]  # six wins, no loss
    found = paired_difference(first, second)
    assert found.mean == 0.03 and found.interval[0] > 0 and found.p_value < 0.05
    assert paired_difference(second, first).interval == (-found.interval[1], -found.interval[0])
    assert paired_difference(first, first).p_value == 1.0


def test_the_interval_of_a_difference_is_that_of_theory():
    first = [0.0] * 400
    second = [1.0 if n % 4 == 0 else 0.0 for n in range(400)]
    low, high = paired_difference(first, second).interval
    assert (low, high) == pytest.approx((0.2076, 0.2924), abs=0.008)  # 0.25 -+ 1.96 * sqrt(0.1875 / 400)
