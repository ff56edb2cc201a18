"""Folders that belong to one piece of work, and that one process at a time works in.

The lock is the system's, on a file in the folder: it goes with the process, however that ends. What stands in the file
says who holds it. A process that finds it held says so in one line and has touched nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from foundation.errors import InputError, visible
from foundation.files import (
    is_draft,
    make_folder,
    read_json,
    remove_left_drafts,
    storage_error,
    sync_folder,
    sync_tree,
    write_json,
)
from foundation.process import Machine, started_at

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"
"""Of the file in a folder that is held; `beside` names those of other locks."""
STARTED_NAME = "building.json"

SHOWN_DIFFERENCES = 3
"""Of two settings, in a message."""


@dataclass(frozen=True)
class OwnedFolder:
    """A folder that belongs to the piece of work whose settings lie in it as a JSON file."""

    path: Path
    settings_file: Path
    kind: str
    """What it holds, in messages: a run, an evaluation, …"""
    option: str = "--out"
    """The flag that names it, in messages."""
    results_file: Path | None = None
    """What no other work may spoil. While it is missing or empty, other settings may take the folder; None: never."""

    def check_kind(self) -> None:
        """Refuse a path that is neither free nor a folder of this kind. Raises `InputError`."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; choose another {self.option}")
        found: list[Path] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # free, or an empty one was just removed
            found = [path for path in self.path.iterdir() if path.name != LOCK_NAME and not is_draft(path)]
        # Looked at in this order: who is just claiming the folder writes its settings before anything else.
        if found and not self.settings_file.is_file():
            raise InputError(f"{self.path} exists and holds no {self.kind}; choose another {self.option}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, unless it is something else's. Raises as `check_kind` and `held` do."""
        self.check_kind()
        with held(self.path):
            yield

    def check_owner(
        self, settings: Mapping[str, Any], compared: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    ) -> None:
        """Refuse a folder of other settings that has results. Raises `InputError`, naming what differs.

        Args:
            settings: of this piece of work.
            compared: what of settings makes the work another; all of them where it is not given.
        """
        self.check_kind()
        if self.settings_file.is_file() and self._has_results:
            there, what = compared(read_json(self.settings_file)), f"{self.path} holds another {self.kind}"
            check_equal(there, compared(settings), what, f"choose another {self.option}")

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Create the folder and make it this work's. Raises as `foundation.files.write_whole` does."""
        make_folder(self.path)
        write_json(self.settings_file, settings)

    @property
    def _has_results(self) -> bool:
        file = self.results_file
        return file is None or (file.is_file() and file.stat().st_size > 0)


@dataclass(frozen=True)
class BuildFolder:
    """A folder that is built for some facts, by one process at a time; a killed build is continued.

    The facts lie in `building.json` until `finished_file`, which is written last, holds them among others.
    """

    path: Path
    finished_file: Path
    kind: str
    """What is built, in messages: an index, a passage store, …"""

    @contextlib.contextmanager
    def building(self, facts: Mapping[str, Any], *work: Path) -> Iterator[bool]:
        """Hold the folder for these facts; gives whether it is finished already.

        Args:
            work: files and folders that only the build needs; removed when it has ended well.

        Raises:
            InputError: the folder holds, or was started for, something else; naming what differs.
            FolderBusy: another process builds in it.
        """
        with held(self.path):
            yield self._is_finished(facts)
            for left in (*work, self.path / STARTED_NAME):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink(missing_ok=True)

    def check(self, facts: Mapping[str, Any]) -> Path | None:
        """The file that says that the folder holds, or was started for, these facts; None where it is free.

        Raises:
            InputError: it holds, or was started for, something else; naming what differs.
        """
        for file in (self.finished_file, self.path / STARTED_NAME):
            if file.is_file():
                found = read_json(file)
                what, cure = f"{self.path} holds another {self.kind}", "choose another --out, or remove it"
                check_equal({key: found.get(key) for key in facts}, facts, what, cure)
                return file
        return None

    def _is_finished(self, facts: Mapping[str, Any]) -> bool:
        file = self.check(facts)
        if file is None:
            write_json(self.path / STARTED_NAME, facts)
        elif file == self.finished_file:
            logger.info("%s is already built", self.path)
        return file == self.finished_file


def check_equal(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str, cure: str) -> None:
    """Raises `InputError` naming the first keys, also of inner mappings, whose values differ."""
    if found != wanted and (named := differences(found, wanted)):
        raise InputError(f"{what} ({shown(named)}); {cure}")


def shown(named: list[str]) -> str:
    """Differences in one line, the first few by name."""
    more = [f"and {len(named) - SHOWN_DIFFERENCES} more"] if len(named) > SHOWN_DIFFERENCES else []
    return "; ".join([*named[:SHOWN_DIFFERENCES], *more])


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], at: str = "") -> list[str]:
    """`key: there …, here …` of every value that differs; a key of an inner mapping follows its outer one's."""
    named: list[str] = []
    for key in sorted({*found, *wanted}):
        there, here = found.get(key), wanted.get(key)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            named += differences(there, here, f"{at}{key} ")
        elif there != here:
            named.append(f"{at}{key}: there {there!r:.80}, here {here!r:.80}")
    return named


class FolderBusy(InputError):
    """Another process works in the folder; the message says which."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as its file says. Written after the lock is taken, so it may be an earlier one's."""

    pid: int
    started: int | None
    """As `foundation.process.started_at`."""
    machine: Machine
    since: str
    command: str

    @classmethod
    def this_process(cls) -> Holder:
        """This one, from now on."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
        command = (module or Path(sys.argv[0]).name).removesuffix(".__main__")
        return cls(os.getpid(), started_at(os.getpid()), Machine.here(), since, command)

    @classmethod
    def read(cls, file: Path) -> Holder | None:
        """Who a lock's file names; None where it says nothing."""
        try:
            return msgspec.convert(read_json(file), cls)
        except (InputError, msgspec.ValidationError):
            return None

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that has ended."""
        return self.machine.is_here and started_at(self.pid) != self.started

    def __str__(self) -> str:
        return visible(f"{self.pid} on {self.machine.host} since {self.since} ({self.command})")


_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, 524})
"""What `flock` says where there are none: NFS without its lock service, Lustre without -o flock, EFS, autofs (524)."""
_NAMED_WITHIN_S = 0.5
"""A process that has just taken a lock has written its name within that time."""


@contextlib.contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Create a folder, hold it for this process, and clear away the drafts of killed ones.

    Without anything put into it, the folder is gone afterwards where it was not there before. On a file system without
    locks (some NFS, Lustre and FUSE mounts) only what the lock's file says counts, with a warning.

    Args:
        folder: the folder.
        wait: for the process that holds it, instead of refusing: for what several commands make where it is missing.

    Raises:
        FolderBusy: another live process holds it. Nothing was written.
        InputError, RunAborted: the folder cannot be written; as `foundation.files.write_whole`.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _locked(folder / LOCK_NAME, folder, wait):
            remove_left_drafts(folder)
            yield
    finally:
        with contextlib.suppress(OSError):  # something was put into it
            for path in missing:
                path.rmdir()


@contextlib.contextmanager
def beside(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a file, or a folder that appears whole: the lock's file is its neighbour. Otherwise as `held`."""
    with _locked(path.with_name(f".{path.name}{LOCK_NAME}"), path, wait):
        yield


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `out` when the block ends without an exception; hold `beside(out)`.

    Raises:
        InputError, RunAborted: it cannot be written; as `foundation.files.write_whole`.
    """
    workplace = out.with_name(f".{out.name}.making")
    draft = workplace / out.name
    try:
        shutil.rmtree(workplace, ignore_errors=True)  # of a killed call
        make_folder(draft)
        yield draft
        sync_tree(draft)
        try:
            draft.rename(out)
            sync_folder(out.parent)
        except OSError as error:
            raise storage_error(out, error) from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


_handles: set[int] = set()
"""Of the locks of this process. A child that is forked would share them, and hold them after this process's end."""


def _let_go() -> None:
    for handle in _handles:
        os.close(handle)
    _handles.clear()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def _locked(file: Path, what: Path, wait: bool) -> Iterator[None]:
    try:
        handle = _take(file, what, wait)
    except OSError as error:
        raise storage_error(what, error) from error
    _handles.add(handle)
    owner = os.getpid()
    try:
        with contextlib.suppress(OSError):  # a full disk: then nobody is named
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(asdict(Holder.this_process())).encode(), 0)
        yield
    finally:
        if os.getpid() == owner:
            with contextlib.suppress(OSError):
                file.unlink()
            _handles.discard(handle)
            os.close(handle)


def _take(file: Path, what: Path, wait: bool) -> int:
    """A handle of the lock's file, with the lock. Whoever lets go removes the file: then it is opened anew."""
    while True:
        make_folder(file.parent)
        with contextlib.suppress(FileNotFoundError):  # the folder was removed, being empty
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                _lock(handle, file, what, wait)
                if os.fstat(handle).st_nlink and os.path.samestat(os.fstat(handle), file.stat()):
                    return handle
            except OSError as error:
                os.close(handle)
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
                continue
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


def _lock(handle: int, file: Path, what: Path, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        said = _said_of(file)
        if not wait:
            raise FolderBusy(f"{what} is held by {said}: wait for it, or choose another place") from error
        logger.warning("%s is held by %s: waiting for it", what, said)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        holder = Holder.read(file)
        if holder is not None and holder.machine.is_here and not holder.is_gone:
            raise FolderBusy(f"{what} is held by {holder}: wait for it, or choose another place") from error
        logger.warning("%s is on a file system without locks (%s): one command at a time", what, error)


def _said_of(file: Path) -> str:
    """The holder of a lock that is taken; it may be about to write its name."""
    give_up_at = time.monotonic() + _NAMED_WITHIN_S
    while True:
        holder = Holder.read(file)
        if holder is not None and not holder.is_gone:
            return str(holder)
        if time.monotonic() > give_up_at:
            return "another process, which has not said its name"
        time.sleep(0.01)
