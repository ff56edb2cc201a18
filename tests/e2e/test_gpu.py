"""What only a GPU can show: `pytest -m gpu` on one machine with one GPU; a second GPU adds NCCL's weight sync.

Every preset trains two steps on a small Qwen2.5 with the real vocabulary: its own flags, but for the number of GPUs,
batch sizes and lengths. Answers of random weights are noise; what is asserted is that the machinery works.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.models.small_qwen import small_qwen
from support.processes.e2e_stack import REPO, Training

from r1_searcher.recipe.presets import Preset, find_preset, shipped_presets

pytestmark = pytest.mark.gpu

ONE_GPU = (
    *("--actor.num_gpus_per_node", "1", "--ref.num_gpus_per_node", "1", "--critic.num_gpus_per_node", "1"),
    *("--vllm.num_engines", "1", "--vllm.tensor_parallel_size", "1", "--vllm.gpu_memory_utilization", "0.3"),
    *("--train.colocate_all", "--vllm.enable_sleep", "--ds.enable_sleep"),
)
SMALL = (
    *("--rollout.batch_size", "4", "--rollout.n_samples_per_prompt", "4", "--train.batch_size", "8"),
    *("--data.max_len", "4096", "--turn-tokens", "64", "--answer-tokens", "32", "--ckpt.save_steps", "-1"),
    *(
        "--actor.lr_warmup_ratio",
        "0",
        "--actor.entropy_coef",
        "0.001",
    ),  # where no answer scores, this still has a gradient
    *("--algo.advantage.is_correction_level", "token"),  # measures vllm_kl
)
STAGES = [
    (name, stage) for name, preset in shipped_presets().items() if preset.device == "cuda" for stage in preset.stages
]


@pytest.fixture(scope="session")
def qwen(tmp_path_factory) -> Path:
    return small_qwen(tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="session")
def eight_questions(world: Path, tmp_path_factory) -> Path:
    """Two rollouts of four."""
    file = tmp_path_factory.mktemp("questions") / "eight.jsonl"
    file.write_text("".join((world / "stage1.jsonl").read_text().splitlines(keepends=True)[:8]))
    return file


@pytest.fixture
def train(tmp_path: Path, qwen: Path, eight_questions: Path, retriever):
    """Trains a stage of a preset for two steps and returns the finished run."""

    def run(name: str, stage: str, *flags: str) -> Training:
        preset = find_preset(name)
        command = [sys.executable, "-m", "r1_searcher.train", "--preset", name, "--stage", stage, "--device", "cuda"]
        command += ["--run-dir", str(tmp_path / "run"), "--data", str(eight_questions), "--search", retriever.url]
        command += ["--actor.model_name_or_path", str(qwen), *_critic(preset, qwen), *flags]
        training = Training(tmp_path / "run", tuple(command))
        assert training.finish(900) == 0, training.console[-4000:] + _log(training)
        return training

    return run


def _critic(preset: Preset, model: Path) -> Sequence[str]:
    return ("--critic.model_name_or_path", str(model)) if "critic" in preset.flags else ()


def _log(training: Training) -> str:
    log = training.run_dir / "train.log"
    return log.read_text(errors="replace")[-8000:] if log.is_file() else ""


def check_trained(training: Training) -> list[dict]:
    """Two finite steps and a model that transformers reads."""
    steps = [line for line in training.metrics() if "policy_loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    for line in steps:
        assert math.isfinite(line["policy_loss"]) and math.isfinite(line["actor_grad_norm"])
        assert abs(line["vllm_kl"]) < 0.02, "engine and trainer disagree by more than bf16 rounding of random logits"
    assert json.loads((training.run_dir / "model" / "config.json").read_text())["vocab_size"] == 152_064
    return steps


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_the_first_two_steps_of_a_preset(train, name, stage):
    """With sleep and wake, ZeRO and micro-batches as the preset has them; weights go through CUDA's memory handles."""
    steps = check_trained(train(name, stage, *ONE_GPU, *SMALL))
    assert any(line["actor_grad_norm"] > 0 for line in steps)


def test_cuda_graphs_survive_sleep_and_new_weights(train):
    """Graphs are captured once and replayed after the engine has slept and got other weights: vllm_kl stays small."""
    run = train("qwen7b", "stage2", *ONE_GPU, *SMALL, "--actor.adam.lr", "1e-3")
    check_trained(run)
    assert "Capturing CUDA graph" in _log(run) or "Graph capturing finished" in _log(run)


def test_nccl_sends_the_weights_to_an_engine_on_another_gpu(train):
    """The way of the presets that keep trainer and engine apart; two processes cannot share a GPU in NCCL."""
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    apart = ("--actor.num_gpus_per_node", "1", "--vllm.tensor_parallel_size", "1")
    check_trained(train("qwen7b", "stage2", *apart, *SMALL, "--actor.adam.lr", "1e-3"))


def test_the_plan_of_memory_is_near_what_torch_allocates(qwen):
    """One update of the trainer's models alone, against the plan's weights, states, activations and logits."""
    program = REPO / "tests" / "support" / "processes" / "gpu_update.py"
    done = subprocess.run(
        [sys.executable, str(program), str(qwen), "4096"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    measured, planned = map(float, done.stdout.split()[-2:])
    assert measured == pytest.approx(planned, rel=0.15)


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
