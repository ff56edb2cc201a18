"""Finds the processes of a run on this machine, also those whose parent has died.

Ray's and vLLM's processes outlive their parents when those are killed, and rewrite their titles and environment.
They stay in the driver's session, which is therefore how they are found. The session is noted in the run folder,
so that the next attempt can end what a killed one has left behind, and nobody else: a folder may come from another
machine, and numbers are used again. The system gives a session's number away when its last process has ended; so a
session in which one process that was noted lives is the run's, with all that is in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec
import psutil

from foundation.errors import InputError
from foundation.files import read_json, write_json
from foundation.process import Machine, started_at

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""Until a process that was asked to end is killed."""


@dataclass(frozen=True)
class ProcessSession:
    """A session of processes, by its leader."""

    sid: int
    machine: Machine | None = None
    """Where; None in files of earlier versions."""
    seen: Mapping[int, int] = field(default_factory=dict)
    """Its processes when it was last looked at: number -> when it started, as `foundation.process.started_at`."""

    @classmethod
    def led_by(cls, pid: int) -> ProcessSession:
        """The session of a process that was started as its leader."""
        start = started_at(pid)
        return cls(pid, Machine.here(), {} if start is None else {pid: start})

    def looked_at(self) -> ProcessSession:
        """The session with its present processes."""
        found = {process.pid: started_at(process.pid) for process in self.processes()}
        return replace(self, seen={pid: start for pid, start in found.items() if start is not None})

    def noted(self, path: Path) -> ProcessSession:
        """The session as it is now, written for a later attempt where it is news."""
        now = self.looked_at()
        if now != self or not path.is_file():
            write_json(path, asdict(now))
        return now

    @classmethod
    def read(cls, path: Path) -> ProcessSession | None:
        """The session that was noted, or None. Raises `InputError` for a file that says something else."""
        if not path.is_file():
            return None
        try:
            return msgspec.convert(read_json(path), cls, strict=False)
        except (InputError, msgspec.ValidationError) as error:
            raise InputError(
                f"{path} is damaged ({error}); check that no earlier attempt is still running, and remove the file"
            ) from error

    @property
    def is_known_to_live(self) -> bool:
        """Whether one of the noted processes lives in it: the session is then the one that was noted."""
        if self.machine is None or not self.machine.is_here:
            return False
        return any(_session_of(pid) == self.sid and started_at(pid) == start for pid, start in self.seen.items())

    def processes(self) -> list[psutil.Process]:
        """The processes of this machine that are in a session of this number now."""
        return [process for process in psutil.process_iter() if _session_of(process.pid) == self.sid]

    def end(self) -> int:
        """End its processes: first asked, then killed. Returns how many there were."""
        left = self.processes()
        for process in left:
            _unless_gone(process.terminate)
        _, alive = psutil.wait_procs(left, timeout=GRACE_SECONDS)
        for process in alive:
            _unless_gone(process.kill)
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)
        return len(left)


def end_killed_attempt(session_file: Path) -> None:
    """End what a killed attempt at a run has left behind; it may still be writing into the run's folder.

    Raises:
        InputError: the file cannot be understood.
    """
    session = ProcessSession.read(session_file)
    if session is None:
        return
    if session.is_known_to_live:
        logger.warning("ended %d processes that a killed attempt at this run had left behind", session.end())
    elif session.machine is not None and session.machine.host != Machine.here().host:
        logger.warning(
            "the last attempt at this run was killed on %s; what it may have left there cannot be ended from here",
            session.machine.host,
        )
    session_file.unlink(missing_ok=True)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _unless_gone(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()
