"""The fake machine of the set-up's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes.fake_machine import Machine, machine_in


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which set-up succeeds."""
    return machine_in(tmp_path)
