"""A supervisor over a stand-in for OpenRLHF's driver; as a program: supervise.py GUARD RUN_DIR STAND_IN"""

from __future__ import annotations

import sys
from pathlib import Path

from r1_searcher.host.device import Device
from r1_searcher.launch import processes, supervisor
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.run_guard import GuardAction, RunGuard


class OverStandIn(supervisor.Supervisor):
    def command(self) -> list[str]:
        return [sys.executable, *self.argv]


def over_stand_in(action: str, run_dir: Path, stand_in: Path) -> OverStandIn:
    """A supervisor whose driver is the program `stand_in`."""
    folder = RunFolder(run_dir)
    guard = RunGuard(folder, GuardAction(action), R1_SEARCHER_TINY, update_size=0.005)
    return OverStandIn(folder, [str(stand_in)], Device.CPU, 1, 10, guard=guard)


if __name__ == "__main__":
    supervisor.POLL_SECONDS = 0.05
    supervisor.STOP_SECONDS = processes.GRACE_SECONDS = 0.5
    sys.exit(over_stand_in(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])).run())
