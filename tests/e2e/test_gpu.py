"""What only a GPU can show: `pytest -m gpu` on one machine with one GPU; a second GPU adds NCCL's weight sync.

Every preset trains two steps on a small Qwen2.5 with the real vocabulary: its own flags, but for the number of GPUs,
batch sizes and lengths. Answers of random weights are noise; what is asserted is that the machinery works.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from support.models.small_qwen import small_qwen
from support.processes.e2e_stack import REPO, Training
from support.processes.gpu_commands import APART, QUESTIONS, STAGES, STEPS, on_one_gpu, searching, two_steps

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200)]  # what vLLM compiles at its first start is kept


@pytest.fixture(scope="session")
def qwen(tmp_path_factory) -> Path:
    return small_qwen(tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="session")
def eight_questions(world: Path, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("questions") / "eight.jsonl"
    file.write_text("".join((world / "stage1.jsonl").read_text().splitlines(keepends=True)[:QUESTIONS]))
    return file


@pytest.fixture
def train(tmp_path: Path, eight_questions: Path, retriever):
    """Trains a stage of a preset and returns the finished run."""

    started: list[Training] = []

    def run(words: list[str]) -> Training:
        command = [sys.executable, "-m", "r1_searcher.train", *words]
        command += ["--run-dir", str(tmp_path / "run"), "--data", str(eight_questions), *searching(retriever.url)]
        training = Training(tmp_path / "run", tuple(command))
        started.append(training)
        assert training.finish(900) == 0, training.console[-4000:] + _log(training)[-8000:]
        return training

    yield run
    for training in started:
        training.end()


def _log(training: Training) -> str:
    log = training.run_dir / "train.log"
    return log.read_text(errors="replace") if log.is_file() else ""


def check_trained(training: Training) -> list[dict]:
    """Two finite steps and a model that transformers reads."""
    steps = [line for line in training.metrics() if "policy_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    for line in steps:
        assert math.isfinite(line["policy_loss"]) and math.isfinite(line["actor_grad_norm"])
        assert abs(line["vllm_kl"]) < 0.02, "engine and trainer disagree by more than bf16 rounding of random logits"
    assert json.loads((training.run_dir / "model" / "config.json").read_text())["vocab_size"] == 152_064
    return steps


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_the_first_two_steps_of_a_preset(train, qwen, name, stage):
    """With sleep and wake, ZeRO and micro-batches as the preset has them; weights go through CUDA's memory handles."""
    steps = check_trained(train(on_one_gpu(name, stage, qwen)))
    assert any(line["actor_grad_norm"] > 0 for line in steps)


def test_cuda_graphs_survive_sleep_and_new_weights(train, qwen):
    """Graphs are captured once and replayed after the engine has slept and got other weights: vllm_kl stays small."""
    run = train([*on_one_gpu("qwen7b", "stage2", qwen), "--actor.adam.lr", "1e-3"])
    check_trained(run)
    assert "Graph capturing finished" in _log(run)


def test_nccl_sends_the_weights_to_an_engine_on_another_gpu(train, qwen):
    """The way of the presets that keep trainer and engine apart; two processes cannot share a GPU in NCCL."""
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    check_trained(train([*two_steps("qwen7b", "stage2", qwen), *APART, "--actor.adam.lr", "1e-3"]))


def test_the_plan_of_memory_is_near_what_torch_allocates(qwen):
    """One update of the trainer's models alone, against the plan's weights, states, activations and logits."""
    program = REPO / "tests" / "support" / "processes" / "gpu_update.py"
    done = subprocess.run(
        [sys.executable, str(program), str(qwen), "4096"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    measured, planned = map(float, done.stdout.split()[-2:])
    assert measured == pytest.approx(planned, rel=0.15)


def test_logits_of_actions_are_the_hosts_with_packed_samples_and_take_less_memory(qwen):
    program = REPO / "tests" / "support" / "processes" / "gpu_logits.py"
    done = subprocess.run(
        [sys.executable, str(program), str(qwen), "2048"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    distance, whole, sliced = map(float, done.stdout.split()[-3:])
    assert distance < 0.05, "bf16 products of other shapes"
    assert sliced < 0.5 * whole


def test_faiss_searches_on_the_gpu_what_it_finds_on_the_cpu(tmp_path):
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("faiss-gpu is not installed")
    from retriever.index.backends import Opening, load_index
    from retriever.index.dense import DenseIndex
    from retriever.index.encoder import HashingEncoder
    from retriever.passage import Passage

    passages = [Passage(str(number), f"Town {number}", f"River {number} flows here.") for number in range(500)]
    DenseIndex.build(passages, HashingEncoder(256)).save(tmp_path)
    queries = [f"River {number}" for number in range(0, 500, 50)]
    on_cpu, on_gpu = (load_index(tmp_path, Opening(gpu=gpu)).search(queries, 5) for gpu in (False, True))
    for here, there in zip(on_cpu, on_gpu, strict=True):
        assert here[0].passage.id == there[0].passage.id
        assert [hit.score for hit in here] == pytest.approx([hit.score for hit in there], abs=1e-3)
