"""A disk that forgets, at a power cut, what nobody waited for: the names of files, or what is in them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest


class PowerCut(BaseException):
    """The power fails here."""


@dataclass
class _Named:
    """A file or folder that got its name by `os.replace` or `os.rename`."""

    path: Path
    before: bytes | None
    """What had the name before; None: nothing."""
    is_on_disk: bool
    """Whether what is in it had been waited for."""


@dataclass
class Disk:
    """What the calls of a program left behind; with `cut_at`, the power fails before that call."""

    cut_at: int | None = None
    calls: int = 0
    _waited_for: dict[int, int] = field(default_factory=dict)
    """Inode -> size."""
    _names: list[_Named] = field(default_factory=list)
    _unsure: list[_Named] = field(default_factory=list)
    """Those whose folder was not waited for."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fsync, rename, replace = os.fsync, os.rename, os.replace
        monkeypatch.setattr(os, "fsync", lambda handle: (self._call(), fsync(handle), self._wait_for(handle)))
        monkeypatch.setattr(os, "rename", lambda *names: self._name(rename, *names))
        monkeypatch.setattr(os, "replace", lambda *names: self._name(replace, *names))

    def _call(self) -> None:
        if self.calls == self.cut_at:
            raise PowerCut
        self.calls += 1

    def _wait_for(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_dir():
            self._unsure = [name for name in self._unsure if name.path.parent != path]
        else:
            self._waited_for[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def _name(self, rename, source, target) -> None:
        self._call()
        path, source = Path(target).absolute(), Path(source)
        before = path.read_bytes() if path.is_file() else None
        inside = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
        is_on_disk = all(self._waited_for.get(file.stat().st_ino) == file.stat().st_size for file in inside)
        rename(source, target)
        named = _Named(path, before, is_on_disk)
        self._names.append(named)
        self._unsure.append(named)

    def forget_names(self) -> None:
        """As a file system does whose journal had not been written."""
        for named in reversed(self._unsure):
            if named.before is not None:
                named.path.write_bytes(named.before)
            elif named.path.is_dir():
                named.path.rename(named.path.with_name(f"{named.path.name}.forgotten"))
            else:
                named.path.unlink(missing_ok=True)

    def forget_content(self) -> None:
        """As a file system does that writes names sooner than data."""
        for named in self._names:
            if not named.is_on_disk:
                for file in [named.path] if named.path.is_file() else named.path.rglob("*"):
                    if file.is_file():
                        file.write_bytes(b"")
