"""What is installed, and how much memory a run needs, as the doctor sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.models.subjects import (
    says,
)

from r1_searcher.doctor.memory import check_memory
from r1_searcher.doctor.versions import Installed, check_versions, read_pins
from r1_searcher.inspection.finding import Level
from r1_searcher.memory.fit import Cards
from r1_searcher.memory.phases import GIB

# Of a 7B model, as its config.json has it.
LARGE = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}


def installed(folder: Path, **packages: tuple[str, list[str]]) -> Installed:
    """Real metadata folders, as pip leaves them."""
    for name, (version, requires) in packages.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name.replace('_', '-')}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires)]) + "\n")
    return Installed.read([str(folder)])


STACK = {
    "openrlhf": ("0.11.2", ["transformers>=5", "flash-attn==2.8"]),
    "vllm": ("0.29.0", ["torch==2.13.0", 'ray[cgraph]>=2.48 ; extra == "ray"']),
    "deepspeed": ("0.19.6", []),
    "ray": ("2.55.0", []),
    "torch": ("2.13.0+cu130", []),
    "transformers": ("5.15.0", []),
}


PINS = {name: version.partition("+")[0] for name, (version, _) in STACK.items()}


@pytest.mark.parametrize(
    "changes, level, words",
    [
        ({}, Level.OK, ["vllm 0.29.0", "torch 2.13.0+cu130"]),
        ({"torch": ("2.12.1+cu130", [])}, Level.FAILED, ["vllm 0.29.0", "built for torch==2.13.0", "found 2.12.1"]),
        ({"transformers": ("4.57.0", [])}, Level.FAILED, ["openrlhf", "asks for transformers>=5"]),
        ({"ray": ("2.56.0", [])}, Level.WARNING, ["ray 2.56.0 (pinned: 2.55.0)"]),
        ({"deepspeed": None}, Level.FAILED, ["not installed: deepspeed", "setup.sh"]),
        ({"vllm": None}, Level.FAILED, ["not installed: vllm"]),
    ],
)
def test_versions_that_do_not_fit_are_found(tmp_path, changes, level, words):
    packages = {name: package for name, package in {**STACK, **changes}.items() if package is not None}
    pins = {name: version if name != "torch" else "2.13.0+cu130" for name, version in PINS.items()}
    says(check_versions(installed(tmp_path, **packages), pins), level, *words)


def test_pins_are_read_from_requirements_files(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "# torch==1.0\ntorch==2.13.0+cpu  # the build\nMy_Package==1\n\n-r more\n"
    )
    assert read_pins([tmp_path / "requirements.txt"]) == {"torch": "2.13.0+cpu", "my-package": "1"}


def test_memory_is_planned_from_the_runs_flags(good):
    """GPUs by `memory/`'s plan; where no flags are given there is nothing to plan."""
    flags = ("--actor.num_gpus_per_node", "4", "--vllm.gpu_memory_utilization", "0.8", "--ds.packing_samples")
    flags = (*flags, "--algo.advantage.estimator", "reinforce", "--algo.kl.init_coef", "0", "--data.max_len", "8192")
    large = replace(good, config=LARGE, model="org/large", flags=(*flags, "--actor.gradient_checkpointing_enable"))
    says(check_memory(large, Cards.parse("8x80")), Level.OK, "needs 6", "of 79.6")
    says(check_memory(large, Cards.parse("8x59")), Level.WARNING, "keep 5% free", "--max-length")
    says(check_memory(large, Cards.parse("8x30")), Level.FAILED, "--ds.zero_stage 3", "--ds.adam_offload")
    says(check_memory(replace(large, flags=()), Cards.parse("8x80")), Level.WARNING, "--preset NAME", "--gpus 8x80")
    says(check_memory(good, 16.0 * GIB), Level.OK, "0.6 M parameters", "of RAM (actor")
    says(check_memory(good, 2.0 * GIB), Level.FAILED, "smaller model")
    says(check_memory(replace(large, config={}), 8.0 * GIB), Level.WARNING, "no hidden_size")
