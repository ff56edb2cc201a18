"""A disk cache for the answers of paid or slow services."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

DAY_S = 86400.0
DEFAULT_DAYS = 7.0
"""As long as DeepResearcher keeps the answers of its search engine."""
FILE_NAME = "web.sqlite3"
MOST_BYTES = 2 << 30
"""Of the answers together; beyond that the oldest make room."""
PUTS_PER_LOOK = 500
"""Answers kept between two looks at the size."""
_AHEAD_S = 60.0
"""How far the clocks of machines that share a cache may differ; an answer from later than that has no age."""
_BUSY_S = 10.0


def default_folder() -> Path:
    """The folder of this user's caches."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "r1-searcher"


class DiskCache:
    """Bytes by key in one SQLite file, which several processes may share.

    A cache is a help, never a reason to fail: when the disk is full or the file damaged, it says so once and from
    then on finds and keeps nothing.
    """

    def __init__(
        self, folder: str | Path, *, max_age: float = DEFAULT_DAYS * DAY_S, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare; the file is opened when first needed.

        Args:
            folder: where the file is; created with it.
            max_age: seconds after which an answer counts no more; it is deleted when a process next opens the file.

        Raises:
            ValueError: the age is not above 0.
        """
        if not max_age > 0:
            raise ValueError(f"a cache keeps answers for more than 0 seconds, found {max_age:g}")
        self.path = Path(folder) / FILE_NAME
        self._max_age, self._clock = max_age, clock
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._broken = False
        self._puts = 0

    async def get(self, key: str) -> bytes | None:
        """The answer kept under the key, unless it is too old."""
        return await asyncio.to_thread(self._guarded, self._get, key)

    async def put(self, key: str, answer: bytes) -> None:
        """Keep an answer."""
        await asyncio.to_thread(self._guarded, self._put, key, answer)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _guarded(self, action: Callable[..., bytes | None], *arguments: object) -> bytes | None:
        with self._lock:
            if self._broken:
                return None
            try:
                return action(*arguments)
            except (sqlite3.Error, OSError) as error:
                self._broken = True
                logger.warning("%s: no cache from now on (%s); searches continue without it", self.path, error)
                return None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # pages that somebody read are private
            # The lock above keeps the threads of asyncio.to_thread apart.
            database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, stored REAL, answer BLOB)")
            self._database = database
            self._make_room()
        return self._database

    def _get(self, key: str) -> bytes | None:
        now = self._clock()
        query = "SELECT answer FROM answers WHERE key = ? AND stored > ? AND stored < ?"
        row = self._open().execute(query, (key, now - self._max_age, now + _AHEAD_S)).fetchone()
        return None if row is None else bytes(row[0])

    def _put(self, key: str, answer: bytes) -> None:
        self._open().execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, self._clock(), answer))
        self._puts += 1
        if self._puts % PUTS_PER_LOOK == 0:
            self._make_room()

    def _make_room(self) -> None:
        """Delete what is too old, and the oldest half of what is too much."""
        database, now = self._open(), self._clock()
        database.execute("DELETE FROM answers WHERE stored <= ? OR stored >= ?", (now - self._max_age, now + _AHEAD_S))
        (size,) = database.execute("SELECT COALESCE(SUM(LENGTH(answer)), 0) FROM answers").fetchone()
        if size > MOST_BYTES:
            database.execute(
                "DELETE FROM answers WHERE key IN "
                "(SELECT key FROM answers ORDER BY stored LIMIT (SELECT (COUNT(*) + 1) / 2 FROM answers))"
            )


def cache_key(parts: Sequence[object]) -> str:
    """A key that tells different parts apart, whatever characters they hold."""
    return hashlib.sha256(repr(tuple(parts)).encode("utf-8", "surrogatepass")).hexdigest()
