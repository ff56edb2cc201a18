"""What the user wrote: a Python function, or a program in any language; loaded, started, asked one question at a time.

An agent is told the question and its settings, nothing else: no answers, no ids of the data set. It returns its answer,
or None where it has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import logging
import shlex
import shutil
import typing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.files import parse_json
from foundation.user_code import load_file
from r1_searcher.own_agent.chat_server import ClientSettings

logger = logging.getLogger(__name__)

COMMAND = "command:"
_MOST_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class OwnAgent:
    """An agent of the user's, as a recipe names it."""

    where: str
    """`FILE.py:function`, or `command:` and a command line."""
    seconds: float = 600.0
    """Longest time of one episode, without what the model takes."""

    @classmethod
    def of_function(cls, written: str, seconds: float) -> OwnAgent:
        """`FILE.py:function` as a user gives it, with its whole path, for other processes. Raises `InputError`."""
        file, found, function = written.rpartition(":")
        if not found or not function.isidentifier():
            raise InputError(f"--agent must be FILE.py:function, found {written!r}")
        agent = cls(f"{Path(file).resolve()}:{function}", seconds)
        agent.check()
        return agent

    @classmethod
    def of_command(cls, written: str, seconds: float) -> OwnAgent:
        """A command line as a user gives it. Raises `InputError`."""
        agent = cls(f"{COMMAND}{written}", seconds)
        agent.check()
        return agent

    def check(self) -> None:
        """Raise `InputError` where it cannot be started."""
        if not self.where.startswith(COMMAND):
            load_function(self.where)
        elif shutil.which(_words(self.where)[0]) is None:
            raise InputError(f"--agent-command: there is no program {_words(self.where)[0]!r}")

    def runner(self, slots: int) -> Runner:
        """What runs it, `slots` episodes at a time. Raises `InputError`."""
        if self.where.startswith(COMMAND):
            return CommandRunner(_words(self.where))
        return FunctionRunner(load_function(self.where), slots)


class AgentFailed(Exception):
    """An agent's program did not answer."""

    def __init__(self, message: str, *, outside: bool = False) -> None:
        super().__init__(message)
        self.outside = outside
        """Whether it says that a service outside has failed, as a search of its own."""


class Runner(typing.Protocol):
    """Runs an agent."""

    async def run(self, question: str, settings: ClientSettings) -> object:
        """What the agent returns. Whatever it raises is passed on."""

    async def close(self) -> None:
        """End what was started."""


def load_function(where: str) -> Callable[[str, ClientSettings], Any]:
    """The function of `FILE.py:function`; the file runs once per process.

    Raises:
        InputError: there is no such file or function, the file fails, or the function does not take two arguments.
    """
    name, _, function = where.rpartition(":")
    module = load_file(Path(name), "agent")
    if module is None:
        raise InputError(f"the agent's file {name} is not there (expected FILE.py:function)")
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"the agent {name} has no function {function!r}")
    try:
        inspect.signature(found).bind("question", "settings")
    except TypeError as error:
        raise InputError(f"the agent's function {function} must take (question, settings): {error}") from error
    return typing.cast("Callable[[str, ClientSettings], Any]", found)


def _words(where: str) -> list[str]:
    try:
        words = shlex.split(where.removeprefix(COMMAND))
    except ValueError as error:
        raise InputError(f"--agent-command: {error}") from error
    if not words:
        raise InputError("--agent-command is empty")
    return words


class FunctionRunner:
    """Awaits an `async def`; runs a plain function in a thread of its own."""

    def __init__(self, function: Callable[[str, ClientSettings], Any], slots: int) -> None:
        self._function = function
        self._threads = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="agent")

    async def run(self, question: str, settings: ClientSettings) -> object:
        """See `Runner`."""
        try:
            if inspect.iscoroutinefunction(self._function):
                return await self._function(question, settings)
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._function, question, settings)
        except SystemExit as error:  # else it would end the process of the engine
            raise AgentFailed(f"it calls sys.exit({error.code!r})") from error

    async def close(self) -> None:
        """See `Runner`."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class CommandRunner:
    """One process for all episodes of this one, which it answers in any order: JSON lines on stdin and stdout.

    A line in is `{"id", "question", "base_url", "api_key", "search_url", "model"}`; a line out is `{"id", "answer"}` or
    `{"id", "error"}`, with `"outside": true` where a service of its own has failed. Other lines on stdout, and stderr,
    are its log. A process that ends fails the episodes that it has open; the next one starts it again. It should end
    when its stdin does: the process of the episodes may be killed.
    """

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._names = (str(number) for number in itertools.count())
        self._open: dict[str, asyncio.Future[object]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def run(self, question: str, settings: ClientSettings) -> object:
        """See `Runner`. Raises `AgentFailed` for an error that it tells, and where it ends."""
        process, name = await self._running(), next(self._names)
        self._open[name] = answer = asyncio.get_running_loop().create_future()
        places = {key: getattr(settings, key) for key in ("base_url", "api_key", "search_url", "model")}
        try:
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it has ended: the reader says how
                process.stdin.write(json.dumps({"id": name, "question": question, **places}).encode() + b"\n")
                await process.stdin.drain()
            return await answer
        finally:
            self._open.pop(name, None)

    async def close(self) -> None:
        """See `Runner`."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        if self._reading is not None:
            await self._reading

    async def _running(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._reading is None or self._reading.done():
                pipe = asyncio.subprocess.PIPE
                try:
                    self._process = await asyncio.create_subprocess_exec(
                        *self._words, stdin=pipe, stdout=pipe, limit=_MOST_LINE_BYTES
                    )
                except OSError as error:
                    raise AgentFailed(f"{self._words[0]} cannot be started: {error}") from error
                self._reading = asyncio.create_task(self._read(self._process))
            assert self._process is not None
            return self._process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        why = ""
        try:
            while line := await process.stdout.readline():
                self._take(line)
        except ValueError:
            why = f": a line on its stdout has more than {_MOST_LINE_BYTES} bytes"
            process.kill()
        status = await process.wait()
        failure = AgentFailed(f"its program ended with status {status}{why}")
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(failure)

    def _take(self, line: bytes) -> None:
        try:
            found = parse_json(line)
        except ValueError:
            found = None
        answer = self._open.get(str(found.get("id"))) if isinstance(found, dict) else None
        if answer is None or not isinstance(found, dict):
            logger.info("agent: %s", line.decode("utf-8", "replace").rstrip()[:1000])
        elif not answer.done():
            if "error" in found:
                answer.set_exception(AgentFailed(str(found["error"]), outside=found.get("outside") is True))
            else:
                answer.set_result(found.get("answer"))
