"""`metrics.jsonl` from real TensorBoard event files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1_searcher.run.metrics_log import MetricsLog, read_metrics

SummaryWriter = pytest.importorskip("torch.utils.tensorboard").SummaryWriter


@pytest.fixture
def log(tmp_path):
    return MetricsLog(tmp_path / "tensorboard", tmp_path / "metrics.jsonl")


def write(
    folder: Path, values: dict[int, dict[str, float]], *, second: int = 1_000, walltime: float | None = None
) -> Path:
    """One attempt of a run that begins in this second, as OpenRLHF logs it; returns its event file."""
    before = set(folder.rglob("events*")) if folder.exists() else set()
    with SummaryWriter(log_dir=str(folder / "run")) as writer:
        for step, scalars in values.items():
            for name, value in scalars.items():
                writer.add_scalar(f"train/{name}", value, step, walltime=walltime)
    (file,) = set(folder.rglob("events*")) - before
    # Its name begins with the second of its creation, which is the same for two attempts of a test.
    return file.rename(file.with_name(f"events.out.tfevents.{second:010d}"))


def test_before_the_first_step_there_is_nothing(log, tmp_path):
    assert log.refresh() == {} and not (tmp_path / "metrics.jsonl").exists()
    (tmp_path / "tensorboard").mkdir()
    assert log.refresh() == {} and not (tmp_path / "metrics.jsonl").exists()


def test_one_line_per_step_in_order(log, tmp_path):
    write(tmp_path / "tensorboard", {2: {"reward": 0.5, "answer/f1": 0.25}, 1: {"reward": 0.125}})
    steps = log.refresh()
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [steps[1], steps[2]]
    assert steps[1]["reward"] == 0.125 and "answer/f1" not in steps[1]
    assert steps[2] == {"step": 2, "time": steps[2]["time"], "reward": 0.5, "answer/f1": 0.25}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_say_is_null(log, tmp_path, value):
    write(tmp_path / "tensorboard", {1: {"actor_grad_norm": value}})
    log.refresh()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["actor_grad_norm"] is None


def test_a_resumed_runs_repeated_steps_count_once_as_last_played(log, tmp_path):
    folder = tmp_path / "tensorboard"
    write(folder, {1: {"reward": 0.1}, 2: {"reward": 0.2}, 3: {"reward": 0.3, "gone": 1.0}}, second=999)
    write(folder, {2: {"reward": 0.25}, 3: {"reward": 0.35}}, second=1000)
    steps = log.refresh()
    assert [steps[step]["reward"] for step in (1, 2, 3)] == pytest.approx([0.1, 0.25, 0.35])
    assert "gone" not in steps[3], "a step is what its last play logged"
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


def test_a_repeated_step_has_the_time_of_its_last_play(log, tmp_path):
    for second in (1000, 2000):
        write(tmp_path / "tensorboard", {5: {"reward": 1.0}}, second=second, walltime=float(second))
    assert log.refresh()[5]["time"] == 2000.0


@pytest.mark.parametrize("second", [2000, 10])
def test_what_an_earlier_attempt_logged_after_the_checkpoint_is_dropped(tmp_path, second):
    """Collapsed at 5, gone back to 2; also where the clock has gone back, too."""
    folder = tmp_path / "tensorboard"
    write(folder, {step: {"reward": 0.1 * step} for step in (1, 2, 3, 4, 5)}, second=1000)
    log = MetricsLog(folder, tmp_path / "metrics.jsonl", first_step=2)
    assert sorted(log.refresh()) == [1, 2]
    write(folder, {3: {"reward": 0.75}}, second=second)
    steps = log.refresh()
    assert sorted(steps) == [1, 2, 3] and steps[3]["reward"] == 0.75
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_a_growing_file(log, tmp_path):
    with SummaryWriter(log_dir=str(tmp_path / "tensorboard")) as writer:
        for step in (1, 2, 3):
            writer.add_scalar("train/reward", step / 10, step)
            writer.flush()
            assert sorted(log.refresh()) == list(range(1, step + 1))
            assert len(read_metrics(tmp_path / "metrics.jsonl")) == step


def test_no_news_no_write(log, tmp_path):
    write(tmp_path / "tensorboard", {1: {"reward": 0.5}})
    log.refresh()
    before = (tmp_path / "metrics.jsonl").stat().st_mtime_ns
    log.refresh()
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_half_written_file_gives_what_is_whole(log, tmp_path, capfd):
    file = write(tmp_path / "tensorboard", {step: {"reward": step / 10} for step in range(1, 6)})
    whole = file.read_bytes()
    for size in (0, 5, 30, len(whole) - 7):
        file.write_bytes(whole[:size])
        assert set(log.refresh()) <= {1, 2, 3, 4}
    assert set(log.refresh()) == {1, 2, 3, 4}
    file.write_bytes(whole)
    assert set(log.refresh()) == {1, 2, 3, 4, 5}
    assert "Traceback" not in capfd.readouterr().err


def test_only_training_scalars_are_taken(log, tmp_path):
    with SummaryWriter(log_dir=str(tmp_path / "tensorboard")) as writer:
        writer.add_scalar("eval/pass1", 0.5, 1)
        writer.add_text("train/generated_samples", "some text", 1)
        writer.add_scalar("train/reward", 0.5, 1)
    assert set(log.refresh()[1]) == {"step", "time", "reward"}


def test_every_step_is_kept(log, tmp_path):
    """TensorBoard's reader thins out long series unless it is told not to."""
    write(tmp_path / "tensorboard", {step: {"reward": 0.0} for step in range(1, 1201)})
    assert sorted(log.refresh()) == list(range(1, 1201))
