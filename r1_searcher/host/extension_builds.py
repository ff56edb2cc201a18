"""What DeepSpeed and PyTorch need to compile an extension at run time: tools in PATH, and no lock of a killed run.

PyTorch compiles an extension under a lock file in the extension's build folder and waits for that file to go away,
forever, without a message (torch/utils/file_baton.py, `FileBaton.wait`). A run that is killed while DeepSpeed
compiles its optimizer leaves the file, and every later run of this user would wait for a process that is gone.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)


def build_root() -> Path:
    """Folder in which PyTorch compiles extensions: `TORCH_EXTENSIONS_DIR`, or its default in the user's cache."""
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch_extensions"


def prepare() -> None:
    """Make this process, and those that it starts, able to compile: before DeepSpeed is imported.

    The environment's own tools come first in PATH. A user who has not activated the environment has no ninja, or
    another one.
    """
    tools = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([tools, *(path for path in paths if path != tools)])
    remove_stale_locks(build_root())


def remove_stale_locks(root: Path) -> list[Path]:
    """Remove the build locks below `root` that no process on this machine holds; each is named in a warning.

    The process that compiles keeps its lock file open, so a lock that nobody has open has lost its owner. (A process on
    another machine that shares the folder cannot be seen from here; at worst the extension is then compiled twice.)
    """
    locks = [*root.glob("*/lock"), *root.glob("*/*/lock")]
    held = set(_open_files()) if locks else set()
    stale = [lock for lock in locks if lock.resolve() not in held]
    for lock in stale:
        lock.unlink(missing_ok=True)
        logger.warning("removed the build lock %s: the process that held it is gone", lock)
    return stale


def _open_files() -> Iterator[Path]:
    """Every file that a process of this user has open."""
    for process in psutil.process_iter():
        try:
            yield from (Path(file.path) for file in process.open_files())
        except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
            continue
