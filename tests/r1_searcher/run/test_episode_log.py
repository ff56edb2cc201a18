"""Episodes as lines of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.episodes.fakes import ask, passages, play, say

from foundation.errors import InputError
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.reward.rewards import REWARDS, score
from r1_searcher.run.episode_log import EpisodeLog, RunAttempt, read_episode_lines, read_episodes
from r1_searcher.run.episode_metrics import episode_metrics
from r1_searcher.run.episode_record import EpisodeRecord


@pytest.fixture
def played():
    return play([ask("q", "\u2028\r\n\x85 "), say("Pâris")], passages("東\u2029"))


def test_what_is_written_is_read_again(tmp_path, played):
    log = EpisodeLog(tmp_path / "deep" / "folder" / "a.jsonl")
    trajectory = played.trajectory
    reward = score(REWARDS["r1_searcher.stage1"], trajectory, played.environment.protocol)
    training = EpisodeRecord(trajectory, reward, step=3, stage=1, attempt=0)
    evaluation = EpisodeRecord(trajectory, reward, episode_metrics(trajectory, reward), decoding="greedy")
    for record in (training, evaluation, EpisodeRecord(trajectory)):
        log.write(record)
    lines = list(read_episode_lines(log.path))  # before close: another process may be reading
    assert [sorted(set(line) - set(to_mapping(trajectory))) for line in lines] == [
        ["attempt", "reward", "stage", "step"],
        ["decoding", "metrics", "reward"],
        [],
    ]
    first, second, third = read_episodes(log.path)
    assert (first.step, first.stage, first.attempt, first.reward) == (3, 1, 0, reward)
    assert (second.decoding, second.reward, second.step) == ("greedy", reward, None)
    assert second.metrics == second.logged_metrics == evaluation.metrics
    assert (third.reward, third.decoding, third.step) == (None, "", None)
    assert first.trajectory.spans == trajectory.spans and first.trajectory.ids == trajectory.ids
    assert [json.loads(json.dumps(record.to_line())) for record in (first, second, third)] == lines
    log.close()


def test_metrics_that_a_line_holds_are_not_computed_anew(played):
    record = EpisodeRecord(
        played.trajectory, logged_metrics={"answer/f1": 0.25, "answer/em": 1.0, "answer/cover_em": 1.0}
    )
    assert record.metrics is record.logged_metrics
    lacking = EpisodeRecord(played.trajectory, logged_metrics={"answer/f1": 0.25}).metrics
    assert lacking["answer/f1"] == 0.25 and {"answer/em", "answer/cover_em"} < lacking.keys(), "what lacks is computed"
    assert EpisodeRecord(played.trajectory).metrics == episode_metrics(played.trajectory, None)
    assert record.without_tokens.metrics == record.metrics
    light = EpisodeRecord(played.trajectory).without_tokens
    assert not light.trajectory.ids and light.metrics == episode_metrics(played.trajectory, None)


@pytest.mark.parametrize(
    "line", ["[]", "3", "{}", '{"row": 1, "spans": [], "stop_reason": "answered", "answer": null}']
)
def test_a_whole_line_that_is_no_episode_is_named(tmp_path, played, line):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(to_mapping(played.trajectory))}\n{line}\n", "utf-8")
    with pytest.raises(InputError, match="a.jsonl, episode 2: not an episode"):
        list(read_episodes(path))


def test_the_file_is_appended_to(tmp_path, played):
    for _ in range(2):
        log = EpisodeLog(tmp_path / "a.jsonl")
        log.write(EpisodeRecord(played.trajectory))
        log.close()
    assert len(list(read_episodes(tmp_path / "a.jsonl"))) == 2


def test_an_incomplete_last_line_is_left_out(tmp_path, played):
    path = tmp_path / "a.jsonl"
    line = json.dumps(to_mapping(played.trajectory))
    for cut in (1, len(line) // 2, len(line)):
        path.write_text(f"{line}\n{line[:cut]}", "utf-8")
        assert len(list(read_episodes(path))) == 1


def test_half_a_letter_at_the_end_of_a_killed_run(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"a": 1}\n{"a": "é'.encode()[:-1])
    assert list(read_episode_lines(path)) == [{"a": 1}]


def test_a_resumed_log_behind_an_incomplete_line_stays_readable(tmp_path, played):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{json.dumps(to_mapping(played.trajectory))}\n{{"b', "utf-8")
    log = EpisodeLog(path)
    log.write(EpisodeRecord(played.trajectory))
    log.close()
    assert len(list(read_episodes(path))) == 2


def test_half_a_surrogate_pair_is_written(tmp_path):
    found = passages("fine")
    found = [type(found[0])("id-\ud83d", "t", "fine")]
    log = EpisodeLog(tmp_path / "a.jsonl")
    log.write(EpisodeRecord(play([ask("q"), say("x")], found).trajectory))
    log.close()
    assert len(list(read_episodes(tmp_path / "a.jsonl"))) == 1


OF_THE_FIRST_VERSION = """\
{"step": 3, "stage": 1, "attempt": 0, ROW, "spans": [["prompt", 0, 2, "Q"], ["action", 2, 4, "A"]], REST,
 "reward": {"total": 0.5, "parts": {"answer": 0.5}, "rules": {"short_answer": true}}}
{"decoding": "greedy", "metrics": {"answer/f1": 0.5}, "reward": {"total": 0.5, "parts": {"answer": 0.5},
 "rules": {"short_answer": true}, "notes": {}}, ROW, "spans": [["prompt", 0, 2, "Q"], ["action", 2, 4, "A"]], REST}
"""


def test_lines_of_the_first_version_are_read(tmp_path):
    row = '"row": {"id": "q1", "question": "Q?", "answers": ["A"], "source": "", "hops": null, "titles": []}'
    rest = (
        '"stop_reason": "answered", "answer": "A", "searches": [{"query": "q", "passage_ids": ["p"], "shown_ids": [], '
        '"scores": [1.5], "seconds": 0.1, "error": "", "tool": ""}], "seconds": 1.0, "engine_seconds": 0.5, '
        '"ids": [1, 2, 3, 4], "logprobs": [0.0, 0.0, -0.5, -0.25]'
    )
    text = OF_THE_FIRST_VERSION.replace("\n ", " ").replace("ROW", row).replace("REST", rest)
    (tmp_path / "a.jsonl").write_text(text)
    training, evaluation = read_episodes(tmp_path / "a.jsonl")
    assert (training.step, training.stage, training.attempt, training.decoding) == (3, 1, 0, "")
    assert (evaluation.decoding, evaluation.metrics["answer/f1"]) == ("greedy", 0.5)
    assert training.reward == evaluation.reward and training.reward.total == 0.5
    assert training.trajectory == evaluation.trajectory and training.trajectory.logprobs == (0.0, 0.0, -0.5, -0.25)


def test_a_logs_name_says_its_attempt():
    attempt = RunAttempt(number=12, first_step=100)
    assert RunAttempt.of(Path("trajectories", attempt.log_name("my-host-77"))) == attempt
    assert RunAttempt.of(Path("000100-my-host-77.jsonl")) == RunAttempt(0, 100), "of an earlier version"
    assert RunAttempt.of(Path("my-host.jsonl")) == RunAttempt(0, 0)
    assert attempt < RunAttempt(13, 20), "it went back"
