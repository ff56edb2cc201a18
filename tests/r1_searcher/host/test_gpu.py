"""What must hold where there is a GPU: nothing is patched, and the scripts take the published settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu


def test_the_cpu_layer_does_nothing_with_cuda(environment):
    program = (
        "import sys, torch; device = torch.cuda.current_device\n"
        "from r1_searcher.host import cpu; finders = list(sys.meta_path); cpu.install()\n"
        "assert sys.meta_path == finders and torch.cuda.current_device is device\n"
        "from r1_searcher.host.device import Device, detect; assert detect()[0] is Device.CUDA"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**environment, "R1_SEARCHER_CPU": "1"})


def test_stage1_takes_the_published_settings(repo, environment):
    command = ["bash", str(repo / "train_scripts" / "stage1.sh"), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "Qwen/Qwen2.5-7B" in done.stdout and "gloo" not in done.stdout
