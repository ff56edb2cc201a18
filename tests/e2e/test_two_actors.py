"""Two actors that share the samples of a rollout, over data whose remainder they could not share evenly.

Their reward comes from a `reward_func` file.
"""

from __future__ import annotations

import pytest
from support.processes.e2e_stack import REPO, check_rewards_are_the_recipes

from r1_searcher import export

pytestmark = pytest.mark.e2e

# 11 questions are two rollouts of 4 and a rest of 3: with 3 samples each, 9 micro-batches for 2 actors. OpenRLHF
# would give 5 to one and 4 to the other, and the first would wait in its fifth for the other until the time-out.
QUESTIONS, BATCH, SAMPLES, EPOCHS = 11, 4, 3, 2
FLAGS = (
    *("--actor.num_gpus_per_node", "2", "--train.num_episodes", str(EPOCHS)),
    *("--rollout.batch_size", str(BATCH), "--rollout.n_samples_per_prompt", str(SAMPLES)),
    *("--rollout.micro_batch_size", "1", "--train.micro_batch_size", "1", "--train.batch_size", str(BATCH * SAMPLES)),
    *("--ckpt.save_steps", "2"),
)


def test_two_actors_train_on_whole_rollouts_and_end(training, world, retriever, tmp_path):
    data = tmp_path / "odd.jsonl"
    lines = (world / "stage2.jsonl").read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:QUESTIONS]))
    reward = ("--reward-url", str(REPO / "r1_searcher" / "reward_func.py"))
    run = training(2, data, retriever.url, *FLAGS, options=reward)
    assert run.finish() == 0, run.console[-2000:]

    steps = EPOCHS * (QUESTIONS // BATCH)
    assert [line["step"] for line in run.metrics()] == list(range(1, steps + 1))
    assert {line["rollout/num_samples"] for line in run.metrics()} == {BATCH * SAMPLES}
    assert all(line["actor_grad_norm"] is not None for line in run.metrics())
    assert (run.run_dir / "model" / "config.json").is_file() and (run.run_dir / "complete").exists()
    assert "8 of 11 questions" in run.console
    episodes = [episode for attempt in run.attempts().values() for episode in attempt]
    assert len(episodes) == steps * BATCH * SAMPLES
    check_rewards_are_the_recipes(episodes, "tiny.stage2")
    check_an_exported_checkpoint_is_the_model(run.run_dir, steps)


def check_an_exported_checkpoint_is_the_model(run_dir, steps) -> None:
    """Its weights are gathered from the parts that two ranks have written."""
    import torch
    from safetensors.torch import load_file

    export.export(run_dir)
    exported = load_file(run_dir / "export" / f"global_step{steps}" / "model.safetensors")
    final = load_file(run_dir / "model" / "model.safetensors")
    assert exported and all(torch.equal(value, final[name]) for name, value in exported.items())
