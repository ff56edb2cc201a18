"""The same reward from a reward server, in a real run; `test_two_actors` has it from a `reward_func` file."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.hostile.canaries import MARK, VARIABLES, WANDB_KEY, command_lines_with, files_with, with_password
from support.processes.e2e_stack import check_engine_follows_trainer, check_rewards_are_the_recipes, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def reward_server(tmp_path):
    ready = tmp_path / "reward.url"
    names = ["--reward", "r1_searcher.stage1", "--protocol", "r1_searcher.tiny"]
    process = subprocess.Popen(
        [sys.executable, "-m", "r1_searcher.reward_server", *names, "--port", "0", "--ready-file", str(ready)],
        stderr=subprocess.DEVNULL,
    )
    wait_until(ready.is_file, 60, "the reward server")
    yield ready.read_text().strip()
    process.terminate()
    assert process.wait(20) == 0


def check_steps(run) -> None:
    """Two steps, and every reward is what the recipe gives in-process."""
    episodes = [episode for attempt in run.attempts().values() for episode in attempt]
    assert len(episodes) == 2 * 64
    check_rewards_are_the_recipes(episodes, "tiny.stage1")
    check_engine_follows_trainer(run.metrics())
    for line in run.metrics():
        assert line["reward"] == pytest.approx(line["reward/retrieval"] + line["reward/format"], abs=1e-5)


def test_from_a_reward_server_with_secrets_that_stand_nowhere(
    training, world, retriever, reward_server, tmp_path, monkeypatch, short_folder
):
    """Keys, tokens and passwords given in every supported way are in no file, no output and no command line."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))  # its session folder, with the logs that everybody can read
    flags = ("--logger.wandb.key", WANDB_KEY)
    options = ("--reward-url", with_password(f"{reward_server}/get_reward", "reward"))
    run = training(1, world / "stage1.jsonl", with_password(retriever.url, "retriever"), *flags, options=options)
    status, seen = run.finish_watched(lambda: command_lines_with(MARK))
    assert status == 0, run.console[-2000:]
    assert not seen
    check_steps(run)
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb")), "wandb has logged nothing"
    assert list(short_folder.glob("ray/session_*/logs/*.log")), "Ray has logged nothing"
    workers = [path.name for path in short_folder.glob("ray/session_*/logs/worker-*.out")]
    assert workers and not [name for name in workers if "-ffffffff-" in name], "a worker without a part in the run"
    assert not files_with([MARK], tmp_path, short_folder)
