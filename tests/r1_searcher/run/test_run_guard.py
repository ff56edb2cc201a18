"""The guard at work: it reads a run's steps and episodes as they come, writes alarms, and ends the run if asked."""

from __future__ import annotations

import json

import pytest
from support.runs.run_folders import append_lines, episode_line, run_folder

from foundation.errors import InputError
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.run_guard import EpisodeTail, GuardAction, RunGuard, best_checkpoint, with_signals


def test_episodes_are_read_as_they_come(tmp_path):
    tail = EpisodeTail(tmp_path, R1_SEARCHER_TINY)
    tail.refresh()
    append_lines(tmp_path / "000000-host-1.jsonl", episode_line("a", 0.0, "x"), episode_line("a", 0.0, "x"))
    append_lines(tmp_path / "000000-host-1.jsonl", episode_line("a", 0.5, "x", step=2), end="")
    tail.refresh()
    assert tail.best_rewards[1] == 0.0 and 2 not in tail.steps, "a line that is being written waits"
    append_lines(tmp_path / "000000-host-1.jsonl", end="\n")
    tail.refresh()
    assert tail.best_rewards[1] == 0.5
    assert tail.values(1)["episodes/dead_groups"] == 1.0 and tail.values(2)["episodes/think_words"] == 1
    assert tail.values(3) == {}


def test_a_step_that_was_played_again_counts_once(tmp_path):
    append_lines(tmp_path / "000000-host-1.jsonl", *(episode_line("a", 0.0, "x", step=step) for step in (1, 2, 3)))
    tail = EpisodeTail(tmp_path, R1_SEARCHER_TINY)
    tail.refresh()
    append_lines(tmp_path / "000001-host-2.jsonl", episode_line("a", 0.0, "x y z", step=2))
    tail.refresh()
    assert sorted(tail.steps) == [1, 2] and tail.values(2)["episodes/think_words"] == 3


@pytest.mark.parametrize("step, begun", [(2, "000001"), (1, "000000")])
def test_attempts_that_began_at_one_step_are_told_apart(tmp_path, step, begun):
    """A run that died twice without a checkpoint between; the log that came last has the older time here."""
    for attempt, thought in [(3, "x y z"), (2, "x")]:
        append_lines(tmp_path / f"{begun}.{attempt}-host-1.jsonl", episode_line("a", 0.0, thought, step=step))
    tail = EpisodeTail(tmp_path, R1_SEARCHER_TINY)
    tail.refresh()
    assert tail.values(step)["episodes/think_words"] == 3
    for engine, thought in enumerate(("x", "x y z")):
        append_lines(tmp_path / f"{begun}.4-host-{engine}.jsonl", episode_line("a", 0.0, thought, step=step))
    tail.refresh()
    assert tail.values(step)["episodes/think_words"] == 2, "the mean of both engines"


def test_the_best_checkpoint_is_the_one_with_the_best_rewards_before_the_trouble():
    steps = {step: {"reward": reward} for step, reward in enumerate([0.1, 0.2, 0.6, 0.6, 0.6, 0.3, 0.9, 0.9, 0.9], 1)}
    assert best_checkpoint([2, 4, 6, 8], steps, trouble=7) == 4
    assert best_checkpoint([2, 4, 6, 8], steps, trouble=100) == 8
    assert best_checkpoint([6, 8], steps, trouble=3) == 6, "all are from after it: the oldest"
    assert best_checkpoint([4], {4: {"reward": None}}, trouble=9) == 4


def line(step: int, **values: float | None) -> dict[str, float | None]:
    return {"step": step, "reward": 0.5, "timing/step_total": 1.0, **values}


def broken(step: int, **values: float | None) -> dict[str, float | None]:
    return line(step, policy_loss=None, **values)


def guard_of(folder: RunFolder, action: GuardAction) -> RunGuard:
    return RunGuard(folder, action, R1_SEARCHER_TINY, update_size=0.005)


@pytest.mark.parametrize("action, ends", [("off", False), ("warn", False), ("stop", True), ("best", True)])
def test_an_alarm_is_written_down_and_acted_upon(tmp_path, action, ends, caplog):
    guard = guard_of(run_folder(tmp_path, 1, 2), GuardAction(action))
    assert not guard.look({1: line(1), 2: line(2), 3: line(3)})
    assert guard.look({3: line(3), 4: line(4, vllm_kl=0.4), 5: line(5, vllm_kl=0.6)}) is ends
    assert (tmp_path / "guard.jsonl").exists() is (action != "off")
    if action != "off":
        (row,) = map(json.loads, (tmp_path / "guard.jsonl").read_text().splitlines())
        assert (row["step"], row["sign"], row["action"], row["window"]) == (5, "engine_gap", action, 2)
        assert row["value"] == pytest.approx(0.5) and row["limit"] == 0.1
        assert "engine_gap: step 5: engine and trainer compute different policies" in caplog.text


def test_half_a_step_waits_for_its_other_half(tmp_path):
    guard = guard_of(RunFolder(tmp_path), GuardAction.STOP)
    half = {key: value for key, value in line(1).items() if key != "timing/step_total"}
    assert not guard.look({1: half})
    assert guard.look({1: broken(1)})


def test_a_value_that_json_has_no_word_for_is_left_out(tmp_path):
    assert guard_of(RunFolder(tmp_path), GuardAction.STOP).look({1: broken(1)})
    row = json.loads((tmp_path / "guard.jsonl").read_text(), parse_constant=pytest.fail)
    assert row["sign"] == "broken_loss" and "value" not in row


def test_an_absurd_learning_rate_is_told_at_the_first_step(tmp_path):
    guard = RunGuard(RunFolder(tmp_path), GuardAction.STOP, R1_SEARCHER_TINY, update_size=0.2)
    assert guard.look({1: line(1)}) and "step 1: the learning rate" in guard.conclude({})


def test_a_log_of_something_else_is_named(tmp_path):
    log = tmp_path / "000000-host-1.jsonl"
    tail = EpisodeTail(tmp_path, R1_SEARCHER_TINY)
    append_lines(log, episode_line("a", 0.0, "x"), episode_line("a", 0.0, "x", step=None))
    with pytest.raises(InputError, match="000000-host-1.jsonl holds an episode without a step"):
        tail.refresh()
    append_lines(log, {"step": 1})
    with pytest.raises(InputError, match="000000-host-1.jsonl, episode 3: not an episode"):
        tail.refresh()


def test_the_signals_of_the_episodes_reach_the_guard(tmp_path):
    guard = guard_of(RunFolder(tmp_path), GuardAction.WARN)
    played = [episode_line("a", reward, "x", step=step) for step in (1, 2, 3) for reward in (0.0, 0.0)]
    log = tmp_path / "trajectories" / "000000-host-1.jsonl"
    append_lines(log, episode_line("b", 1.0, "x"), episode_line("b", 0.0, "x"))
    append_lines(log, *played, *(episode_line("a", 0.0, "x", step=4),) * 2)
    guard.look({step: line(step) for step in (1, 2, 3, 4)})
    assert json.loads((tmp_path / "guard.jsonl").read_text())["sign"] == "dead_groups"
    metrics = with_signals([line(step) for step in (1, 2, 3, 4, 5)], tmp_path / "signals.jsonl")
    assert [each.get("episodes/dead_groups") for each in metrics] == [0.5, 1.0, 1.0, 1.0, None]
    assert all(each["reward"] == 0.5 for each in metrics) and metrics[0]["guard/update_size"] == 0.005


def test_a_second_stage_that_is_solved_at_a_lower_reward_is_no_collapse(tmp_path):
    """The first stage of the published code pays up to 2, the second up to 1."""
    guard = guard_of(RunFolder(tmp_path), GuardAction.WARN)
    played = [episode_line("a", reward, "x", step=1) for reward in (2.0, 1.0)]
    played += [episode_line("a", 1.0, "x", step=step, logprob=-1e-4) for step in range(2, 8) for _ in range(4)]
    stages = [{**episode, "stage": 1 + (episode["step"] > 1)} for episode in played]
    append_lines(tmp_path / "trajectories" / "000000-host-1.jsonl", *stages)
    guard.look({step: line(step, **{"schedule/stage": 1.0 + (step > 1)}) for step in range(1, 8)})
    assert not (tmp_path / "guard.jsonl").exists()


def test_signals_are_those_of_the_step_as_last_played(tmp_path):
    rows = [{"step": 1, "guard/update_size": 1.0}, {"step": 2, "x": 1.0}, {"step": 2, "x": 2.0}]
    (tmp_path / "s").write_text("\n".join([*map(json.dumps, rows), '{"step": 3, "x"']))
    assert with_signals([{"step": 2, "reward": 0.1}, {"step": 3}], tmp_path / "s") == [
        {"step": 2, "x": 2.0, "reward": 0.1},
        {"step": 3},
    ]
    assert with_signals([{"step": 2}], tmp_path / "missing") == [{"step": 2}]


def test_a_stopped_run_says_where_it_goes_on(tmp_path):
    guard = guard_of(run_folder(tmp_path, 1, 2), GuardAction.STOP)
    steps = {1: line(1), 3: broken(3)}
    assert guard.look(steps)
    told = guard.conclude(steps)
    assert "step 3: the loss is not a number" in told and "checkpoint of step 2" in told and "\n" not in told
    empty = guard_of(RunFolder(tmp_path / "empty"), GuardAction.BEST)
    assert empty.look(steps) and "no checkpoint yet" in empty.conclude(steps)


def test_going_back_to_the_best(tmp_path):
    guard = guard_of(RunFolder(tmp_path), GuardAction.BEST)
    folder = run_folder(tmp_path, 2, 4, latest=4)  # written by this attempt
    steps = {step: line(step, reward=reward) for step, reward in [(1, 0.3), (2, 0.9), (3, 0.9), (4, 0.5), (5, 0.1)]}
    steps[6] = broken(6)
    assert guard.look(steps)
    assert "checkpoint of step 2" in guard.conclude(steps) and folder.last_step == 2


def test_a_resumed_run_is_not_stopped_for_its_past(tmp_path):
    past = {step: broken(step) for step in (1, 2, 3, 4)}
    guard = guard_of(run_folder(tmp_path, 4), GuardAction.STOP)
    assert not guard.look(past)
    assert not guard.look({**past, 5: broken(5)}), "who resumes it knows this sign"
    assert guard.look({**past, 6: broken(6, actor_grad_norm=None)}), "and not this one"
