"""A checkout on other people's machines: Git for Windows' settings, which WSL inherits, leave the scripts whole."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


@pytest.mark.parametrize("setting", ["core.autocrlf=true", "core.eol=crlf"])
def test_a_checkout_that_converts_line_ends_does_not_convert_ours(setting, tmp_path):
    """zml/zml #559, magicmonty/bash-git-prompt #345: bash stops at `set -euo pipefail` and a carriage return."""
    command = ["git", "-C", str(ROOT), "-c", setting, "-c", "core.safecrlf=false"]
    subprocess.run([*command, "checkout-index", "--all", f"--prefix={tmp_path}/"], check=True)
    scripts = sorted(tmp_path.rglob("*.sh"))
    assert len(scripts) > 10
    texts = [*scripts, *tmp_path.rglob("*.py"), *tmp_path.rglob("*.txt"), *tmp_path.rglob("*.toml")]
    assert [path.name for path in texts if b"\r" in path.read_bytes()] == []
    check = 'for script in "$@"; do bash -n "$script" || exit 1; done'
    subprocess.run(["bash", "-c", check, "bash", *map(str, scripts)], check=True)
