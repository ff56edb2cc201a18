"""What a training needs of the machine beside GPUs: room for sockets' names, and shared memory.

Otherwise both show only once Ray has started, in the traceback of a remote process.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from foundation.errors import InputError

logger = logging.getLogger(__name__)

RAY_BYTES = 39
"""Of the longest folder for Ray's sockets: a socket's name has at most 107 bytes (`sockaddr_un`), and Ray 2.55 adds
`/ray/session_YYYY-MM-DD_HH-MM-SS_ffffff_PID/sockets/plasma_store` to `RAY_TMPDIR` or else `TMPDIR`."""
OTHERS_BYTES = 70
"""The same for vLLM, which adds a UUID; Python's multiprocessing adds less."""
SHORT_FOLDER = Path("/tmp")

SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 32 * 1024**2
"""Free bytes with which Ray, vLLM and NCCL start; Docker gives a container 64 MiB in all."""


def settle_temporary_folder(*, ray: bool) -> None:
    """Let sockets be made where TMPDIR is too long for them (SLURM's job folders): in /tmp, and log it.

    Args:
        ray: whether this process is going to start Ray on this machine.

    Raises:
        InputError: RAY_TMPDIR is too long itself, or nothing can be written to /tmp.
    """
    chosen = os.environ.get("RAY_TMPDIR", "")
    if ray and _length(chosen) > RAY_BYTES:
        raise InputError(
            f"RAY_TMPDIR is {_length(chosen)} bytes long ({chosen}), which leaves no room for the names of Ray's "
            f"sockets; give a folder of at most {RAY_BYTES}"
        )
    folder, most = os.environ.get("TMPDIR", ""), RAY_BYTES if ray and not chosen else OTHERS_BYTES
    if _length(folder) <= most:
        return
    seen = f"TMPDIR is {_length(folder)} bytes long ({folder}), sockets there have room for {most}"
    if not os.access(SHORT_FOLDER, os.W_OK):
        raise InputError(f"{seen}, and {SHORT_FOLDER} cannot be written; set TMPDIR or RAY_TMPDIR to a shorter folder")
    os.environ["TMPDIR"] = str(SHORT_FOLDER)
    tempfile.tempdir = None  # what Python has looked up already
    logger.warning("%s: %s is used instead; set RAY_TMPDIR or TMPDIR to another short folder", seen, SHORT_FOLDER)


def check_shared_memory() -> None:
    """There must be some of it: full, the processes that meet there die of a bus error. Raises `InputError`."""
    if not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < SHARED_BYTES:
        raise InputError(
            f"{SHARED_MEMORY} has {free / 1024**2:.0f} MiB free, at least {SHARED_BYTES / 1024**2:.0f} are needed; "
            "remove files that dead processes have left there, or give the container more (docker run --shm-size=8g)"
        )


def _length(folder: str) -> int:
    return len(os.fsencode(folder.rstrip("/")))
