"""Two actors that share the samples of a rollout, over data whose remainder they could not share evenly.

Their reward comes from a `reward_func` file, and they train on a machine where everything is odd at once: what a unit
test cannot know is what Ray, vLLM, DeepSpeed and datasets make of it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.e2e_stack import REPO, check_rewards_are_the_recipes

from r1_searcher import export

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ODD_NAME = "Übung 東京 (1) it's " + "x" * 150
"""Of the folder of runs: blanks, quotation marks, letters of other scripts, 200 bytes."""

# 11 questions are two rollouts of 4 and a rest of 3: with 3 samples each, 9 micro-batches for 2 actors. OpenRLHF
# would give 5 to one and 4 to the other, and the first would wait in its fifth for the other until the time-out.
QUESTIONS, BATCH, SAMPLES, EPOCHS = 11, 4, 3, 2
FLAGS = (
    *("--actor.num_gpus_per_node", "2", "--train.num_episodes", str(EPOCHS)),
    *("--rollout.batch_size", str(BATCH), "--rollout.n_samples_per_prompt", str(SAMPLES)),
    *("--rollout.micro_batch_size", "1", "--train.micro_batch_size", "1", "--train.batch_size", str(BATCH * SAMPLES)),
    *("--ckpt.save_steps", "2"),
)

GENERATE = """
import json, sys
from r1_searcher.inference.engine import EngineSettings, TurnRequest, load_core, prepare_environment, step_core

folder, prompt = sys.argv[1], json.loads(sys.argv[2])
core = load_core(EngineSettings(folder, 512, prepare_environment(model=folder)))
from vllm import SamplingParams

sampling = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=0)
outputs = step_core(core, [TurnRequest("0", prompt, sampling)])
while not any(output.finished for output in outputs):
    outputs = step_core(core, [])
(answer,) = outputs[-1].outputs
logprobs = [found[token].logprob for token, found in zip(answer.token_ids, answer.logprobs)]
print()
print(json.dumps({"ids": list(answer.token_ids), "logprobs": logprobs}))
"""


@contextlib.contextmanager
def on_an_odd_machine(tmp_path, monkeypatch) -> Iterator[Path]:
    """SLURM's job folder (Ray's sockets have 107 bytes), a cluster's proxy, `docker run --user 1234`; and a folder."""
    job, folder = tmp_path / ("j" * 90), tmp_path / ODD_NAME
    job.mkdir()
    folder.mkdir()
    with monkeypatch.context() as machine:
        for name, value in {"TMPDIR": str(job), "HOME": "", "http_proxy": "http://127.0.0.1:9"}.items():
            machine.setenv(name, value)
        for name in ("RAY_TMPDIR", "no_proxy", "NO_PROXY"):
            machine.delenv(name, raising=False)
        yield folder


def test_two_actors_train_on_whole_rollouts_and_end(training, world, retriever, tmp_path, monkeypatch):
    data = tmp_path / "odd.jsonl"
    lines = (world / "stage2.jsonl").read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:QUESTIONS]))
    reward = ("--reward-url", str(REPO / "r1_searcher" / "reward_func.py"))
    with on_an_odd_machine(tmp_path, monkeypatch) as folder:
        run = training(2, data, retriever.url, *FLAGS, options=reward, folder=folder)
        assert run.finish(1500) == 0, run.console[-2000:]
    assert "TMPDIR is" in run.console and "RAY_TMPDIR" in run.console

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
    """Its weights are gathered from the parts that two ranks have written, and vLLM and transformers load it."""
    import torch
    from safetensors.torch import load_file

    assert export.main([str(run_dir), "--step", str(steps)]) == 0
    folder = run_dir / "export" / f"global_step{steps}"
    exported, final = (load_file(path / "model.safetensors") for path in (folder, run_dir / "model"))
    assert exported and all(torch.equal(value, final[name]) for name, value in exported.items())
    check_both_libraries_say_the_same(folder)


def check_both_libraries_say_the_same(folder) -> None:
    """What vLLM generates has the log-probs that transformers gives it.

    bf16 rounds them apart by some hundredths, where the model has hardly seen the context by tenths; other weights
    would put all of them apart.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompt = AutoTokenizer.from_pretrained(folder)("Question : What is the home of the person ")["input_ids"]
    program = [sys.executable, "-c", GENERATE, str(folder), json.dumps(prompt)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    ids = torch.tensor([prompt + said["ids"]])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(ids).logits[0, len(prompt) - 1 : -1]
    expected = logits.float().log_softmax(-1).gather(-1, torch.tensor(said["ids"])[:, None])[:, 0]
    apart = sorted(abs(ours - theirs) for ours, theirs in zip(said["logprobs"], expected.tolist(), strict=True))
    assert len(apart) == 8 and apart[4] < 0.1 and apart[-1] < 1, (said, expected)
