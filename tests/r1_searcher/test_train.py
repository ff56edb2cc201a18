"""The end of a training: its model says what it was trained with, and its folder that it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.json_lines import write_json_lines
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.recipe.schedule import Batches, Progress
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.run.run_folder import RunFolder, identity_of
from r1_searcher.run.trained_with import TrainedWith
from r1_searcher.train import finish

RECIPE = find_recipe("tiny.stage2")


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """A run whose driver has ended and has saved its model, before any step was noted."""
    folder = RunFolder(tmp_path)
    folder.prepare(identity_of(RECIPE.to_mapping(), [], ["--actor.model_name_or_path", "base"]), [])
    folder.model.mkdir()
    return folder


def play_steps(file: Path, steps: int) -> None:
    progress = Progress(Batches(1, 100), 100, None, file)
    for _ in range(steps):
        progress.end([(True, True)])


def finished(folder: RunFolder, total_steps: int) -> int:
    """The step that the finished model says."""
    finish(RECIPE, (), folder, total_steps)
    assert folder.is_complete
    found = TrainedWith.read(folder.model)
    assert found is not None and found.base_model == "base"
    return found.step


def test_a_run_that_the_host_logged_nothing_of_is_complete(folder):
    """12 steps with `--logger.logging_steps 20`."""
    play_steps(folder.progress_file, 12)
    assert finished(folder, 12) == 12


def test_the_last_step_need_not_be_logged(folder):
    """25 steps with `--logger.logging_steps 10`."""
    play_steps(folder.progress_file, 25)
    write_json_lines(folder.metrics_file, ({"step": step, "time": float(step)} for step in (10, 20)))
    assert finished(folder, 25) == 25


def test_steps_that_were_played_ahead_are_not_trained(folder):
    """`--rollout.vllm_generate_batch_size` of two batches."""
    play_steps(folder.progress_file, 4)
    assert finished(folder, 3) == 3


def test_a_night_between_two_attempts_is_no_cost_of_a_step(folder, capsys):
    """10 steps of 10 s, resumed after the fifth."""
    play_steps(folder.progress_file, 10)
    for earlier, first_step in [((), 0), ((0,), 5)]:
        run = RunConfig(str(folder.path), RECIPE, RetrieverConfig("http://x"), "", first_step, earlier)
        run.write(folder.config_file)
    timings = {"timing/generation": 6.0, "timing/ppo_train": 3.0, "timing/step_total": 9.0}
    steps = ({"step": n, "time": 10.0 * n + 8 * 3600 * (n > 5), **timings} for n in range(1, 11))
    write_json_lines(folder.metrics_file, steps)
    finished(folder, 10)
    assert "one step took 10.00 s" in capsys.readouterr().err


def test_a_run_whose_every_rollout_was_filtered_out_says_so(folder, caplog):
    play_steps(folder.progress_file, 0)
    assert finished(folder, 12) == 0
    assert "no step was trained" in caplog.text
