"""The collapse guard: every sign, recorded runs that stayed well or collapsed, and what happens to the run."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.cli import GUARDED
from foundation.errors import InputError
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.run.checkpoints import go_back_to, kept_steps
from r1_searcher.run.collapse_guard import SIGNS, CollapseGuard, Kind, Sign
from r1_searcher.run.episode_signals import StepSignals
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.run_guard import EpisodeTail, GuardAction, RunGuard, best_checkpoint, with_signals
from r1_searcher.run.weights import update_size, weight_scale

RECORDED = Path(__file__).with_name("collapse_guard")
"""Steps of real runs of the tiny world, one line each: what the signs read, and held-out F1 where it was measured."""
BASE = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
LOST = 0.8
"""Share of the best held-out F1; a run below it has collapsed."""


def recorded(name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]


def alarms_of(rows):
    guard = CollapseGuard()
    return [alarm for row in rows for alarm in guard.observe(row["step"], row)]


@pytest.mark.parametrize("path", sorted(RECORDED.glob("healthy*.jsonl")), ids=lambda path: path.stem)
def test_a_healthy_run_raises_no_alarm(path):
    assert alarms_of(recorded(path.stem)) == []


@pytest.mark.parametrize("path", sorted(RECORDED.glob("collapse*.jsonl")), ids=lambda path: path.stem)
def test_a_collapse_is_seen_before_held_out_f1_has_lost_a_fifth(path):
    rows = recorded(path.stem)
    first = alarms_of(rows)[0].step
    best = 0.0
    for row in rows:
        if "heldout_f1" in row:
            best = max(best, row["heldout_f1"])
            if row["heldout_f1"] < LOST * best:
                assert first < row["step"], f"F1 is lost at step {row['step']}, the first alarm is at {first}"
                return
    pytest.fail("this run has not collapsed")


@pytest.mark.parametrize("path", sorted(RECORDED.glob("collapse*.jsonl")), ids=lambda path: path.stem)
def test_a_collapse_shows_in_the_behaviour_too(path):
    """Also where the learning rate is not known to be absurd."""
    rows = [{key: value for key, value in row.items() if key != "guard/update_size"} for row in recorded(path.stem)]
    names = [alarm.sign.name for alarm in alarms_of(rows)]
    assert {"reward", "format"} <= set(names)


def test_a_run_with_the_hosts_fault_is_told_so():
    """Two GRPO runs from before rewards were handed on a grid: whole groups of reward 0.1 got an advantage of -7.45.

    Reward and F1 of the first also fall from 0.94 to 0.21 within four steps (34 to 37), and come back in one.
    """
    first, second = (alarms_of(recorded(f"fault_research_seed{seed}")) for seed in (0, 1))
    assert [(alarm.sign.name, alarm.step) for alarm in second] == [("loss", 4), ("loss", 7)]
    steps = [alarm.step for alarm in first if alarm.sign.name == "loss"]
    assert steps == [5, 7, 23, 34, 59, 62]
    assert [alarm.step for alarm in first if alarm.sign.name != "loss"] == [36]


def test_there_are_healthy_and_collapsing_records():
    assert len(list(RECORDED.glob("healthy*.jsonl"))) >= 3 and list(RECORDED.glob("collapse*.jsonl"))


def sign(name: str) -> Sign:
    return next(sign for sign in SIGNS if sign.name == name)


@pytest.mark.parametrize(
    "name, quiet, loud",
    [
        ("update_size", [0.005] * 5, [0.05]),
        ("broken_loss", [0.1, -0.2], [math.nan]),
        ("broken_gradient", [0.1, 2.0], [None]),
        ("format", [0.6, 0.9, 0.95, 0.6, 0.6], [0.3, 0.3]),
        ("format", [0.1, 0.2, 0.3, 0.1], []),
        ("searching", [0.2, 0.5, 0.9, 1.0, 0.7, 0.7], [0.1, 0.1]),
        ("thinking", [30, 31, 29, 24, 22, 20], [4, 4, 4]),
        ("cut_off", [0.0, 0.1, 0.1], [0.7, 0.7]),
        ("cut_off", [0.9, 0.8, 0.9, 0.7, 0.6], []),
        ("forged", [0.0, 0.02, 0.01], [0.4, 0.4]),
        ("repetition", [0.05, 0.1, 0.1], [0.6, 0.9]),
        ("dead_groups", [0.1, 0.5, 0.6, 0.7], [1.0, 1.0, 1.0]),
        ("certainty", [0.6, 0.3, 0.1, 0.08], [0.001, 0.001, 0.001, 0.001, 0.001]),
        ("gibberish", [0.6, 0.2, 0.15, 0.3, 0.2], [0.9]),
        ("engine_gap", [1e-4, 2e-3, 1e-3], [0.3, 0.3]),
    ],
)
def test_each_sign_appears_once_and_when_it_should(name, quiet, loud):
    guard = CollapseGuard([sign(name)])
    metric = sign(name).metric
    for step, value in enumerate(quiet, start=1):
        assert guard.observe(step, {metric: value}) == []
    raised = [guard.observe(len(quiet) + step, {metric: value}) for step, value in enumerate(loud, start=1)]
    assert sum(map(len, raised)) == bool(loud)
    if loud:
        assert all(guard.observe(100 + step, {metric: loud[-1]}) == [] for step in range(3)), "told once"


def test_a_drop_of_the_reward_is_measured_against_its_noise():
    def fall(error: float, to: float) -> int:
        guard = CollapseGuard([sign("reward")])
        values = [0.5] * 6 + [to] * 4
        return sum(
            len(guard.observe(step, {"reward": value, "episodes/reward_error": error}))
            for step, value in enumerate(values)
        )

    assert fall(error=0.02, to=0.1) == 1
    assert fall(error=0.2, to=0.1) == 0, "as large a drop is chance where steps differ that much"
    assert fall(error=0.001, to=0.35) == 0, "a small one is nothing, however certain"


def test_another_stage_is_another_scale():
    guard = CollapseGuard([sign("reward")])
    values = [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.1, 2.0), (0.1, 2.0), (0.1, 2.0)]
    for step, (reward, stage) in enumerate(values):
        assert guard.observe(step, {"reward": reward, "episodes/reward_error": 0.01, "schedule/stage": stage}) == []


def test_what_is_not_measured_is_no_sign():
    assert CollapseGuard().observe(1, {"step": 1, "unknown": None}) == []


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32) | st.none(), max_size=12))
def test_no_value_breaks_the_guard(values):
    guard = CollapseGuard()
    for step, value in enumerate(values):
        for alarm in guard.observe(step, dict.fromkeys([each.metric for each in SIGNS], value)):
            assert alarm.sign.kind is Kind.BROKEN or math.isfinite(alarm.value)
            assert str(alarm).startswith(f"step {step}: ")


def episode(
    row: str, reward: float, *actions: str, step: int = 1, queries=(), logprob: float = -0.5, reason="answered"
):
    spans, ids = [["prompt", 0, 2, "Question"]], 2
    for text in actions:
        count = len(text.split())
        spans.append(["action", ids, ids + count, text])
        ids += count
    return {
        "step": step,
        "row": {"id": row},
        "spans": spans,
        "stop_reason": reason,
        "searches": [{"query": query} for query in queries],
        "logprobs": [0.0, 0.0] + [logprob] * (ids - 2),
        "reward": {"total": reward},
    }


def signals(*episodes, best: float = 1.0) -> dict[str, float]:
    step = StepSignals(R1_SEARCHER_TINY)
    for each in episodes:
        step.add(each)
    return step.values(best)


def test_the_signals_of_a_step_by_hand():
    values = signals(
        episode("a", 0.0, "I look . <|begin_of_query|> x y <|end_of_query|>", "So . </think> <answer> b c </answer>"),
        episode("a", 0.0, "one two", queries=["X  y", "x Y", "z"]),
        episode("b", 1.0, "one two <|begin_of_documents|>"),
        episode("b", 1.0, "one two", logprob=-1.5),
        episode("c", 0.5, "broken", reason="retriever_error"),
    )
    assert values["episodes/dead_groups"] == 0.5, "a is; b is solved"
    assert values["episodes/think_words"] == (5 + 2 + 3 + 2) / 4
    assert values["episodes/forged"] == 0.25
    assert values["episodes/repeated_queries"] == pytest.approx(1 / 3)
    assert values["episodes/reward_error"] == pytest.approx(0.5), "two groups, with means 0 and 1"
    assert values["episodes/open_entropy"] == 0.5, "of a alone"
    tokens = [7 + 7, 2, 3, 2]
    assert values["episodes/entropy"] == pytest.approx((0.5 * sum(tokens[:3]) + 1.5 * 2) / sum(tokens))


def test_signals_of_nothing():
    assert signals() == {} and signals(episode("a", 0.0, "x", reason="retriever_error")) == {}
    one = signals({**episode("a", 1.0, "x y"), "logprobs": None})
    assert "episodes/entropy" not in one and "episodes/reward_error" not in one and one["episodes/dead_groups"] == 0.0
    assert signals(episode("a", 0.0, "never closed <answer> a b"))["episodes/think_words"] == 2


def write(path: Path, *episodes, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n".join(map(json.dumps, episodes)) + end)


def test_episodes_are_read_as_they_come(tmp_path):
    tail = EpisodeTail(tmp_path, R1_SEARCHER_TINY)
    tail.refresh()
    write(tmp_path / "000000-host-1.jsonl", episode("a", 0.0, "x"), episode("a", 0.0, "x"))
    write(tmp_path / "000000-host-1.jsonl", episode("a", 0.5, "x", step=2), end="")
    tail.refresh()
    assert tail.best_rewards[1] == 0.0 and 2 not in tail.steps, "a line that is being written waits"
    write(tmp_path / "000000-host-1.jsonl", end="\n")
    tail.refresh()
    assert tail.best_rewards[1] == 0.5
    assert tail.values(1)["episodes/dead_groups"] == 1.0 and tail.values(2)["episodes/think_words"] == 1
    assert tail.values(3) == {}


def test_a_step_that_was_played_again_counts_once(tmp_path):
    write(tmp_path / "000000-host-1.jsonl", *(episode("a", 0.0, "x", step=step) for step in (1, 2, 3)))
    tail = EpisodeTail(tmp_path, R1_SEARCHER_TINY)
    tail.refresh()
    write(tmp_path / "000001-host-2.jsonl", episode("a", 0.0, "x y z", step=2))
    tail.refresh()
    assert sorted(tail.steps) == [1, 2] and tail.values(2)["episodes/think_words"] == 3


def run_folder(tmp_path: Path, *checkpoints: int, latest: int | None = None) -> RunFolder:
    for model in ("_actor", "_critic"):
        for step in checkpoints:
            (tmp_path / "checkpoints" / model / f"global_step{step}").mkdir(parents=True)
        if checkpoints:
            newest = latest if latest is not None else max(checkpoints)
            (tmp_path / "checkpoints" / model / "latest").write_text(f"global_step{newest}")
    return RunFolder(tmp_path)


def test_going_back_to_a_kept_checkpoint(tmp_path):
    folder = run_folder(tmp_path, 10, 20, 30, latest=20)
    (tmp_path / "checkpoints" / "_actor" / "best_global_step5").mkdir()
    assert kept_steps(folder) == [10, 20], "30 was not finished"
    go_back_to(folder, 10)
    assert folder.last_step == 10
    assert (tmp_path / "checkpoints" / "_critic" / "latest").read_text() == "global_step10"
    assert kept_steps(RunFolder(tmp_path / "empty")) == []


def test_the_best_checkpoint_is_the_one_with_the_best_rewards_before_the_trouble():
    steps = {step: {"reward": reward} for step, reward in enumerate([0.1, 0.2, 0.6, 0.6, 0.6, 0.3, 0.9, 0.9, 0.9], 1)}
    assert best_checkpoint([2, 4, 6, 8], steps, trouble=7) == 4
    assert best_checkpoint([2, 4, 6, 8], steps, trouble=100) == 8
    assert best_checkpoint([6, 8], steps, trouble=3) == 6, "all are from after it: the oldest"
    assert best_checkpoint([4], {4: {"reward": None}}, trouble=9) == 4


def line(step: int, time: float = math.inf, **values: float | None) -> dict[str, float | None]:
    return {"step": step, "time": time, "reward": 0.5, "timing/step_total": 1.0, **values}


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


def test_the_signals_of_the_episodes_reach_the_guard(tmp_path):
    guard = guard_of(RunFolder(tmp_path), GuardAction.WARN)
    played = [episode("a", reward, "x", step=step) for step in (1, 2, 3) for reward in (0.0, 0.0)]
    write(tmp_path / "trajectories" / "000000-host-1.jsonl", episode("b", 1.0, "x"), episode("b", 0.0, "x"))
    write(tmp_path / "trajectories" / "000000-host-1.jsonl", *played, *(episode("a", 0.0, "x", step=4),) * 2)
    guard.look({step: line(step) for step in (1, 2, 3, 4)})
    assert json.loads((tmp_path / "guard.jsonl").read_text())["sign"] == "dead_groups"
    metrics = with_signals([line(step) for step in (1, 2, 3, 4, 5)], tmp_path / "signals.jsonl")
    assert [each.get("episodes/dead_groups") for each in metrics] == [0.5, 1.0, 1.0, 1.0, None]
    assert all(each["reward"] == 0.5 for each in metrics) and metrics[0]["guard/update_size"] == 0.005


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
    past = {step: broken(step, time=0.0) for step in (1, 2, 3, 4, 5)}
    guard = guard_of(run_folder(tmp_path, 4), GuardAction.STOP)
    assert not guard.look(past), "also not for step 5, which it will play again"
    assert not guard.look({**past, 5: broken(5)}), "who resumes it knows this sign"
    assert guard.look({**past, 6: broken(6, actor_grad_norm=None)}), "and not this one"


def test_the_scale_of_a_models_weights(tmp_path):
    assert weight_scale(str(BASE)) == pytest.approx(0.13, abs=0.01)
    assert weight_scale("org/model") is None and update_size("org/model", 1e-6) is None
    assert update_size(str(BASE), 7e-4) == pytest.approx(7e-4 / weight_scale(str(BASE)))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no safetensors file"):
        weight_scale(str(tmp_path))


SUPERVISED = """
    import sys
    from pathlib import Path
    from r1_searcher.host import supervisor
    from r1_searcher.host.device import Device
    from r1_searcher.run.run_folder import RunFolder
    from r1_searcher.run.run_guard import GuardAction, RunGuard
    from r1_searcher.recipe.protocols import R1_SEARCHER_TINY

    supervisor.POLL_SECONDS, supervisor.STOP_SECONDS = 0.05, 1.0

    class OverStandIn(supervisor.Supervisor):
        def _command(self):
            return [sys.executable, "-c", self.argv[0]]

    folder = RunFolder(Path(sys.argv[1]))
    guard = RunGuard(folder, GuardAction(sys.argv[2]), R1_SEARCHER_TINY, 0.005)
    sys.exit(OverStandIn(folder, [sys.argv[3]], Device.CPU, 1, 10, guard=guard).run())
"""
DRIVER = """
    import time
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter("tensorboard/run")
    for step in (1, 2, 3):
        loss = float("nan") if step == 3 else 0.1
        scalars = [("policy_loss", loss), ("timing/step_total", 1.0)]
        summary = Summary(value=[Summary.Value(tag=f"train/{name}", simple_value=value) for name, value in scalars])
        writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
    writer.flush()
    time.sleep({sleep})
"""


@pytest.mark.parametrize("action, sleep, status", [("stop", 60, GUARDED), ("warn", 0.5, 0)])
def test_the_supervisor_ends_a_run_that_collapses(tmp_path, action, sleep, status):
    """The real supervisor over a stand-in for OpenRLHF's driver that loses its loss."""
    run_folder(tmp_path, 2)
    (tmp_path / "checkpoints" / "_actor" / "latest").unlink()  # this attempt began at 0
    driver = textwrap.dedent(DRIVER).replace("{sleep}", str(sleep))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SUPERVISED), str(tmp_path), action, driver],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert ("r1_searcher: the collapse guard ended the run: step 3" in done.stderr) is (status == GUARDED)
    assert json.loads((tmp_path / "guard.jsonl").read_text())["sign"] == "broken_loss"
