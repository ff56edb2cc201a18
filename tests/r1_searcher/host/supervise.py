"""A program, not a test: a supervisor over a stand-in for OpenRLHF's driver. supervise.py RUN_DIR STAND_IN"""

from __future__ import annotations

import sys
from pathlib import Path

from r1_searcher.host import supervisor
from r1_searcher.host.device import Device
from r1_searcher.run.run_folder import RunFolder

supervisor.POLL_SECONDS = 0.05
supervisor.STOP_SECONDS = 1.0


class OverStandIn(supervisor.Supervisor):
    def _command(self) -> list[str]:
        return [sys.executable, *self.argv]


run_dir, *stand_in = sys.argv[1:]
sys.exit(OverStandIn(RunFolder(Path(run_dir)), stand_in, Device.CPU, 1, 10).run())
