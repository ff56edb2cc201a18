"""A session: predictions on disk, resuming, and scores."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.episodes.evaluations import Run, policy_of, retriever_of, right, rows, wrong
from support.episodes.fakes import passages

from eval.score import score_file
from foundation.errors import RunAborted
from r1_searcher.inference.decoding import Decoding
from r1_searcher.run.episode_log import read_episodes
from retriever.errors import RetrieverUnavailable


def test_predictions_hold_whole_episodes_with_metrics_and_rules(tmp_path):
    questions = rows(4)
    session = asyncio.run(Run(tmp_path, questions, policy_of(questions))())
    records = list(read_episodes(tmp_path / "predictions.jsonl"))
    assert {record.decoding for record in records} == {"greedy"}
    assert all(record.logged_metrics["answer/f1"] == 1.0 for record in records)
    assert all(record.reward.rules and not record.reward.broken for record in records)
    trajectory = records[0].trajectory
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
    assert score_file(tmp_path / "predictions.jsonl") == scores, "one schema, the same figures"


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
    assert score_file(tmp_path / "predictions.jsonl")["greedy"]["retriever_errors"] == 1
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


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from foundation.cli import run_command
from support.episodes.evaluations import Run, policy_of, rows
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # behaves as a disk of that size
questions = rows(20)
sys.exit(run_command("eval", lambda: asyncio.run(Run(Path(sys.argv[1]), questions, policy_of(questions))())))
"""


def test_a_full_disk_is_one_clear_error_and_no_half_row(tmp_path):
    tests = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FULL_DISK, tmp_path, tests]
    done = subprocess.run(list(map(str, command)), cwd=tests.parent, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot write" in last and "same command" in last and "Traceback" not in done.stderr
    file = tmp_path / "predictions.jsonl"
    kept = [json.loads(line)["row"]["question"] for line in file.read_text().splitlines()]
    assert kept and file.read_bytes().endswith(b"\n")
    again = policy_of(rows(20))  # with space, the same command asks the rest
    asyncio.run(Run(tmp_path, rows(20), again)())
    assert set(again.asked) == {row.question for row in rows(20)} - set(kept)


SLOW = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from support.episodes.evaluations import Run, policy_of, retriever_of, rows
questions, retriever = rows(200), retriever_of()
retriever.latency = 0.02
asyncio.run(Run(Path(sys.argv[1]), questions, policy_of(questions), retriever, concurrency=4)())
"""


@pytest.mark.e2e
def test_kill_9_loses_the_questions_in_flight_only(tmp_path):
    tests, file = Path(__file__).resolve().parents[2], tmp_path / "predictions.jsonl"
    command = [sys.executable, "-c", SLOW, tmp_path, tests]
    process = subprocess.Popen(list(map(str, command)), cwd=tests.parent)
    deadline = time.monotonic() + 60
    while not (file.is_file() and file.read_bytes().count(b"\n") >= 20) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    kept = {
        json.loads(line)["row"]["id"] for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
    }
    assert 20 <= len(kept) < 200
    # questions are asked in order, four at a time: nothing that was finished is missing
    assert {row.id for row in rows(len(kept) - 4)} <= kept
    questions = rows(200)
    again = policy_of(questions)
    asyncio.run(Run(tmp_path, questions, again)())
    assert len(again.asked) == 200 - len(kept)
