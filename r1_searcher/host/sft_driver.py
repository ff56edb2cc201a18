"""One rank of OpenRLHF's supervised fine-tuning: CPU patches, our rows, then its command-line module.

`python -m torch.distributed.run … -m r1_searcher.host.sft_driver FLAGS…`, started by `r1_searcher.sft`.
"""

from __future__ import annotations

import runpy
import sys

from foundation.cli import run_command
from r1_searcher.host import cpu, extension_builds
from r1_searcher.host.flags import SFT_MODULE
from r1_searcher.host.patches import action_logits, host_patch


def main() -> int:
    """Run OpenRLHF with this process's arguments; its output is this process's output."""
    return run_command("r1_searcher.sft", _run)


def _run() -> None:
    extension_builds.prepare()
    cpu.install()
    host_patch.install(action_logits.PATCHES)
    from r1_searcher.host import sft_dataset  # imports OpenRLHF, which needs the patches

    sft_dataset.install()
    sys.argv[0] = SFT_MODULE
    runpy.run_module(SFT_MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main())
