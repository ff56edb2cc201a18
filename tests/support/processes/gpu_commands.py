"""The trainings of the GPU tests, as words for `r1_searcher.train`: a preset's own flags, but for sizes and placement.

`tests/r1_searcher/launch/test_gpu_commands.py` takes them up to the start of the driver without a GPU.
"""

from __future__ import annotations

from pathlib import Path

from r1_searcher.recipe.presets import find_preset, shipped_presets

STAGES = [
    (name, stage) for name, preset in shipped_presets().items() if preset.device == "cuda" for stage in preset.stages
]
"""Every preset for GPUs, and its stages."""
STEPS = 2
QUESTIONS = 8
"""Of the data: those of `STEPS` rollouts."""
TOKENS = "4096"
"""Of an episode, and of a micro-batch."""
ONE_GPU = (
    *("--actor.num_gpus_per_node", "1", "--ref.num_gpus_per_node", "1", "--critic.num_gpus_per_node", "1"),
    *("--vllm.num_engines", "1", "--vllm.tensor_parallel_size", "1", "--vllm.gpu_memory_utilization", "0.3"),
    *("--train.colocate_all", "--vllm.enable_sleep", "--ds.enable_sleep"),
)
APART = ("--actor.num_gpus_per_node", "1", "--vllm.num_engines", "1", "--vllm.tensor_parallel_size", "1")
"""Trainer and engine, a GPU each."""


def two_steps(name: str, stage: str, model: Path) -> list[str]:
    """A stage of a preset, with a small model in place of its own; without the data and the search service."""
    flags = [
        *("--rollout.batch_size", str(QUESTIONS // STEPS), "--rollout.n_samples_per_prompt", "4"),
        *("--train.batch_size", "8", "--data.max_len", TOKENS, "--ckpt.save_steps", "-1"),
        *("--train.max_tokens_per_gpu", TOKENS, "--rollout.max_tokens_per_gpu", TOKENS),
        *("--actor.model_name_or_path", str(model), "--actor.lr_warmup_ratio", "0"),
        *("--actor.entropy_coef", "0.001"),  # where no answer scores, this still has a gradient
        *("--algo.advantage.is_correction_level", "token"),  # measures vllm_kl
    ]
    if "critic" in find_preset(name).flags:
        flags += ["--critic.model_name_or_path", str(model)]
    ours = ["--max-steps", str(STEPS), "--turn-tokens", "64", "--answer-tokens", "32"]
    return ["--preset", name, "--stage", stage, "--device", "cuda", *ours, *flags]


def searching(url: str) -> list[str]:
    """A search service in the place of all sources: a page reader would ask the Internet before the start."""
    return ["--search", url, "--browse", url]


def on_one_gpu(name: str, stage: str, model: Path) -> list[str]:
    """The same with trainer and engine in turns on one GPU."""
    return [*two_steps(name, stage, model), *ONE_GPU]
