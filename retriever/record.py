"""Searches written to a file as they happen, and replayed from it offline to the byte.

One line per search:

    {"query": q, "top_k": 5, "question": "...", "turn": 0, "results": [[{"id", "title", "text", "score"}, ...]]}
    {"query": q, "top_k": 5, "question": "...", "turn": 1, "error": {"kind": "timeout", "message": "..."}}

`question` is that of the episode (page reading and simulated search look at it), empty where there is none. `turn`
counts equal requests in the order in which they were asked, because an engine may answer the second one differently.
Keys of services are no part of a request, so none can get into the file.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foundation.files import parse_json
from retriever.errors import (
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
)
from retriever.interface import READY, Health, Source
from retriever.passage import Hits, SearchRequest
from retriever.row_facts import RowFacts
from retriever.wire import bodies
from retriever.wire.answers import decode_own, encode_own
from retriever.wire.bodies import Ask

_KINDS: dict[str, type[RetrieverError]] = {
    leaf.kind: leaf for leaf in (RetrieverUnavailable, RetrieverTimeout, RetrieverBadResponse, RetrieverRejected)
}

_START = b'{"query": '
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The identity of a request."""

    query: str
    top_k: int
    question: str

    @classmethod
    def of(cls, request: SearchRequest) -> RequestKey:
        """The key of a request."""
        facts = RowFacts.of(request.context)
        return cls(request.query, request.top_k, facts.question if facts else "")


Outcome = Hits | RetrieverError


class RecordingRetriever:
    """Passes searches on, and appends each with its outcome to a file.

    The file is opened for every line and each line written at once, so that several processes may record into one
    file and a killed one loses at most its last search. A recording is continued, not overwritten.
    """

    def __init__(self, inner: Source, path: str | Path) -> None:
        """Prepare.

        Raises:
            ValueError: the file cannot be written, or is no recording.
        """
        self._inner, self._path = inner, Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._turns = Counter(key for key, _, _ in _read(self._path))
            _cut_half_line(self._path)
        except OSError as error:
            raise ValueError(f"cannot record to {path}: {error.strerror or error}") from error

    async def search(self, request: SearchRequest) -> Hits:
        """As the recorded retriever.

        Raises:
            RetrieverError: as the recorded retriever, or the line cannot be written.
        """
        key = RequestKey.of(request)
        turn = self._turns[key]
        self._turns[key] += 1
        try:
            hits = await self._inner.search(request)
        except RetrieverError as error:
            self._write(key, turn, error)
            raise
        self._write(key, turn, hits)
        return hits

    async def health(self) -> Health:
        """As the recorded retriever."""
        return await self._inner.health()

    async def close(self) -> None:
        """As the recorded retriever."""
        await self._inner.close()

    def _write(self, key: RequestKey, turn: int, outcome: Outcome) -> None:
        # Not by `JsonLines`: several processes append to this file, and halves of surrogate pairs keep their bytes.
        line = (json.dumps(_row(key, turn, outcome), ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        try:
            with self._path.open("ab", buffering=0) as file:
                written = file.write(line)
                if written != len(line):
                    _cut_half_line(self._path)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RetrieverUnavailable(f"cannot record to {self._path}: {error.strerror or error}") from error


class ReplayRetriever:
    """Answers from a recording, and from nothing else: the n-th equal request gets the n-th recorded outcome.

    Once the outcomes of a request are used up, they start over.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the recording.

        Raises:
            ValueError: the file is missing, or is no recording; the message names the line.
        """
        self._path = Path(path)
        if not self._path.is_file():
            raise ValueError(f"recording not found: {path}; record one with record:{path}|WHERE")
        rows = sorted(_read(self._path), key=lambda row: row[1])  # stable: equal turns stay as written
        self._outcomes: dict[RequestKey, list[Outcome]] = {}
        for key, _, outcome in rows:
            self._outcomes.setdefault(key, []).append(outcome)
        self._turns: Counter[RequestKey] = Counter()

    def __len__(self) -> int:
        """Searches recorded."""
        return sum(map(len, self._outcomes.values()))

    async def search(self, request: SearchRequest) -> Hits:
        """The recorded outcome.

        Raises:
            RetrieverRejected: the request is not in the recording (status 404).
            RetrieverError: as recorded.
        """
        key = RequestKey.of(request)
        outcomes = self._outcomes.get(key)
        if outcomes is None:
            about = f" about the question {bodies.show(key.question)}" if key.question else ""
            reason = f"no search for {bodies.show(key.query)} with top_k {key.top_k}{about}"
            raise RetrieverRejected(f"{self._path}: {reason} was recorded", status=404, reason=reason)
        outcome = outcomes[self._turns[key] % len(outcomes)]
        self._turns[key] += 1
        if isinstance(outcome, RetrieverError):
            # A new one each time: an exception that was raised before carries that traceback.
            raise _error(_error_row(outcome))
        return outcome

    async def health(self) -> Health:
        """Always ready."""
        return Health(READY, f"replay:{self._path.name}", 0)

    async def close(self) -> None:
        """Nothing to release."""


def _row(key: RequestKey, turn: int, outcome: Outcome) -> dict[str, object]:
    row: dict[str, object] = {"query": key.query, "top_k": key.top_k, "question": key.question, "turn": turn}
    if isinstance(outcome, RetrieverError):
        return row | {"error": _error_row(outcome)}
    return row | bodies.as_object(encode_own(Ask((key.query,), key.top_k), [outcome]))


def _error_row(error: RetrieverError) -> dict[str, object]:
    row: dict[str, object] = {"kind": error.kind, "message": str(error)}
    return row | ({"status": error.status, "reason": error.reason} if isinstance(error, RetrieverRejected) else {})


def _error(row: dict[str, object]) -> RetrieverError:
    message, leaf = str(row.get("message", "")), _KINDS.get(str(row.get("kind")), RetrieverError)
    if leaf is RetrieverRejected:
        status = row.get("status")
        return RetrieverRejected(
            message, status=status if isinstance(status, int) else 400, reason=str(row.get("reason", ""))
        )
    return leaf(message)


def _read(path: Path) -> Iterator[tuple[RequestKey, int, Outcome]]:
    """Request, turn and outcome of every whole line. Raises ValueError, OSError."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") and (line.startswith(_START) or _START.startswith(line)):
                return  # half of a line
            try:
                row = bodies.as_object(parse_json(line.decode("utf-8", "surrogatepass")))
                query, top_k, question, turn = (row.get(name) for name in ("query", "top_k", "question", "turn"))
                if not isinstance(query, str) or not isinstance(question, str):
                    raise bodies.WireError("expected a query and a question")
                if not isinstance(top_k, int) or not isinstance(turn, int):
                    raise bodies.WireError("expected a top_k and a turn")
                error = row.get("error")
                outcome = _error(bodies.as_object(error)) if error is not None else tuple(decode_own(row)[0])
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}, line {number}: not a recorded search ({error})") from error
            yield RequestKey(query, top_k, question), turn, outcome


def _cut_half_line(path: Path) -> None:
    """Take back what a killed process, or one on a full disk, has half written."""
    with path.open("rb+") as file:
        end = keep = file.seek(0, os.SEEK_END)
        while keep:
            start = max(0, keep - _BLOCK_BYTES)
            file.seek(start)
            found = file.read(keep - start).rfind(b"\n")
            keep = start + found + 1
            if found >= 0:
                break
        if keep < end:
            file.truncate(keep)
