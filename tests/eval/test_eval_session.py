"""A session: predictions on disk, resuming, and scores."""

from __future__ import annotations

import asyncio
import json

import pytest
from eval_fakes import Run, policy_of, retriever_of, right, rows, wrong
from fakes import passages

from eval.evaluation import Decoding
from eval.score import score_file
from r1_searcher.episode_log import read_episodes
from r1_searcher.errors import RunAborted
from r1_searcher.trajectory_json import from_mapping
from retriever.errors import RetrieverUnavailable


def test_predictions_hold_whole_episodes_with_metrics_and_rules(tmp_path):
    questions = rows(4)
    session = asyncio.run(Run(tmp_path, questions, policy_of(questions))())
    lines = list(read_episodes(tmp_path / "predictions.jsonl"))
    assert {line["decoding"] for line in lines} == {"greedy"}
    assert {line["metrics"]["answer/f1"] for line in lines} == {1.0}
    assert all(line["reward"]["rules"].values() for line in lines)
    trajectory = from_mapping(lines[0])
    assert trajectory.n_searches == 1 and trajectory.answer == trajectory.row.answers[0]
    assert session.is_complete


def test_scores_per_decoding(tmp_path):
    questions = rows(4)
    policy = policy_of(questions, lambda row: (right if row.hops == 1 else wrong)(row))
    session = asyncio.run(Run(tmp_path, questions, policy, decodings=(Decoding(), Decoding(1.0)))())
    scores = session.scores()
    assert list(scores) == ["greedy", "sampled"]
    greedy = scores["greedy"]
    assert (greedy["n"], greedy["f1"], greedy["retrieval_rate"], greedy["format_rate"]) == (4, 0.5, 0.5, 1.0)
    assert greedy["by_hops"]["1"]["em"] == 1.0 and greedy["by_hops"]["2"]["searches_per_question"] == 0.0
    assert len(policy.asked) == 8
    assert score_file(tmp_path / "predictions.jsonl")["sampled"]["f1"] == scores["sampled"]["f1"]


def test_a_killed_evaluation_asks_only_what_is_missing(tmp_path):
    questions, file = rows(6), tmp_path / "predictions.jsonl"
    whole = asyncio.run(Run(tmp_path, questions, policy_of(questions))()).scores()
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]) + lines[2][:100])  # killed while it wrote the third
    again = policy_of(questions)
    session = asyncio.run(Run(tmp_path, questions, again)())
    answered = {json.loads(line)["row"]["question"] for line in lines[:2]}
    assert set(again.asked) == {row.question for row in questions} - answered
    assert len(list(read_episodes(file))) == 6
    assert session.scores() == whole


def test_a_complete_evaluation_asks_nothing(tmp_path):
    questions = rows(3)
    asyncio.run(Run(tmp_path, questions, policy_of(questions))())
    again = policy_of(questions)
    asyncio.run(Run(tmp_path, questions, again)())
    assert again.asked == []


def test_failed_searches_are_counted_not_scored_and_asked_again(tmp_path):
    questions, found = rows(3), passages("a fact")
    retriever = retriever_of(found, RetrieverUnavailable("down"), found)
    first = Run(tmp_path, questions, policy_of(questions), retriever, concurrency=1)
    greedy = asyncio.run(first()).scores()["greedy"]
    assert (greedy["n"], greedy["f1"], greedy["retriever_errors"]) == (2, 1.0, 1)
    assert score_file(tmp_path / "predictions.jsonl")["retriever_errors"] == 1
    again = policy_of(questions)
    greedy = asyncio.run(Run(tmp_path, questions, again)()).scores()["greedy"]
    assert again.asked == ["Q1?"]
    assert (greedy["n"], greedy["retriever_errors"]) == (3, 0)


def test_no_score_where_every_search_failed(tmp_path):
    questions = rows(2)
    run = Run(tmp_path, questions, policy_of(questions), retriever_of(RetrieverUnavailable("down")))
    session = asyncio.run(run())
    with pytest.raises(RunAborted, match="none of 2"):
        session.scores()
