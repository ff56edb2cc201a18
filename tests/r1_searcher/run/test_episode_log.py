"""Episodes as lines of a file."""

from __future__ import annotations

import json

import pytest
from support.fakes import ask, passages, play, say

from r1_searcher.episode.trajectory_json import from_mapping, to_mapping
from r1_searcher.reward.rewards import REWARDS, score
from r1_searcher.run.episode_log import EpisodeLog, read_episodes


@pytest.fixture
def played():
    return play([ask("q", "\u2028\r\n\x85 "), say("Pâris")], passages("東\u2029"))


def test_lines_hold_episode_reward_and_extras(tmp_path, played):
    log = EpisodeLog(tmp_path / "deep" / "folder" / "a.jsonl")
    reward = score(REWARDS["r1_searcher.stage1"], played.trajectory, played.environment.protocol)
    log.write(played.trajectory, reward, step=3, attempt=0)
    log.write(played.trajectory, None)
    first, second = read_episodes(log.path)  # before close: another process may be reading
    assert (first["step"], first["attempt"], first["reward"]["total"]) == (3, 0, reward.total)
    assert first["reward"]["parts"] == reward.parts and first["reward"]["rules"] == reward.rules
    assert "reward" not in second and "step" not in second
    assert from_mapping(first).spans == played.trajectory.spans
    log.close()


def test_the_file_is_appended_to(tmp_path, played):
    for _ in range(2):
        log = EpisodeLog(tmp_path / "a.jsonl")
        log.write(played.trajectory, None)
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
    assert list(read_episodes(path)) == [{"a": 1}]


def test_a_resumed_log_behind_an_incomplete_line_stays_readable(tmp_path, played):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"b', "utf-8")
    log = EpisodeLog(path)
    log.write(played.trajectory, None)
    log.close()
    assert len(list(read_episodes(path))) == 2


def test_half_a_surrogate_pair_is_written(tmp_path):
    found = passages("fine")
    found = [type(found[0])("id-\ud83d", "t", "fine")]
    log = EpisodeLog(tmp_path / "a.jsonl")
    log.write(play([ask("q"), say("x")], found).trajectory, None)
    log.close()
    assert len(list(read_episodes(tmp_path / "a.jsonl"))) == 1
