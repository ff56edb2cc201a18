"""The same reward from a `reward_func` file and from a reward server, each in a real run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.e2e_stack import REPO, check_engine_follows_trainer, wait_until

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


def check(run) -> None:
    """Two steps, and every reward is what the recipe gives in-process."""
    from r1_searcher.episode.trajectory_json import from_mapping
    from r1_searcher.recipe.recipe import find_recipe
    from r1_searcher.reward.rewards import score

    assert run.finish() == 0, run.console[-2000:]
    recipe = find_recipe("tiny.stage1")
    episodes = [episode for attempt in run.attempts().values() for episode in attempt]
    assert len(episodes) == 2 * 64
    for episode in episodes:
        here = score(recipe.reward, from_mapping(episode), recipe.protocol)
        assert episode["reward"] == {"total": here.total, "parts": dict(here.parts), "rules": dict(here.rules)}
    check_engine_follows_trainer(run.metrics())
    for line in run.metrics():
        assert line["reward"] == pytest.approx(line["reward/retrieval"] + line["reward/format"], abs=1e-5)


def test_from_a_reward_func_file_with_wandb(training, world, retriever, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    key = "0123456789" * 4
    file = REPO / "r1_searcher" / "reward_func.py"
    flags = ("--logger.wandb.key", key)
    run = training(1, world / "stage1.jsonl", retriever.url, *flags, options=("--reward-url", str(file)))
    check(run)
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb")), "wandb has logged nothing"
    seen = [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert not seen, f"the key was written to {seen}"


def test_from_a_reward_server(training, world, retriever, reward_server):
    check(training(1, world / "stage1.jsonl", retriever.url, options=("--reward-url", reward_server)))
