"""One function over input that may be hostile, in processes that are killed when it takes too long or too much.

A process gets neither the environment's secrets nor more memory than its limit. It ends with whoever started it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from foundation.loops import PerLoop

_LENGTH = struct.Struct("!BQ")
"""Before every message: what it is, and its bytes."""
_READY, _TASK, _DONE, _FAILED = range(4)
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH")
_PROJECT = Path(__file__).resolve().parents[1]
_MOST_ERROR_CHARS = 300


class NoRoom(Exception):
    """No process could take the task in time: this machine's failure, not the input's."""


class TaskFailed(Exception):
    """The function raised, took too long, or ended its process: the input's doing. The message says which."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds of the tasks of one sandbox."""

    processes: int = 2
    """At once, per event loop."""
    seconds: float = 10.0
    """Of one task."""
    memory_bytes: int = 2 << 30
    """Address space of a process, libraries included."""
    tasks: int = 500
    """After which a process makes room for a new one: what it has leaked goes with it."""


class Sandbox:
    """Processes that are started when first needed and serve all event loops of this process."""

    def __init__(self, maker: str, limits: SandboxLimits | None = None) -> None:
        """Prepare; nothing is started yet.

        Args:
            maker: of the function from bytes to bytes, as `module:name`; called once in each process, so that what it
                loads takes no task's time.
            limits: of processes and tasks.
        """
        self._maker, self._limits = maker, limits or SandboxLimits()
        self._slots = PerLoop(lambda: asyncio.Semaphore(self._limits.processes))
        self._idle: list[_Worker] = []
        self._ending: list[subprocess.Popen[bytes]] = []
        self._pid = os.getpid()
        atexit.register(self.close)

    async def run(self, task: bytes, within_s: float) -> bytes:
        """What the function makes of `task`.

        Args:
            task: its argument.
            within_s: seconds until the answer is of no use, those of waiting for a process included.

        Raises:
            TaskFailed: the input cannot be used.
            NoRoom: no process took it, or took it so late that less time was left than it had waited.
        """
        came = time.monotonic()
        give_up_at, slots = came + within_s, self._slots.get()
        try:
            await asyncio.wait_for(slots.acquire(), within_s)
        except TimeoutError as error:
            raise NoRoom(f"no free process within {within_s:.3g} s") from error
        try:
            worker = await self._worker(give_up_at)
            waited = time.monotonic() - came
            given = max(min(self._limits.seconds, within_s - waited), 0.001)
            try:
                kind, answer = await asyncio.wait_for(worker.ask(task), given)
            except TimeoutError as error:
                self._end(worker)
                if given < min(self._limits.seconds, waited):
                    raise NoRoom(f"a process was free only after {waited:.3g} s") from error
                raise TaskFailed(f"it takes more than {given:.3g} s") from error
            except OSError as error:
                self._end(worker)
                raise TaskFailed("it ends the process that looks at it, as for lack of memory") from error
            except BaseException:
                self._end(worker)  # in the midst of an answer that nobody waits for
                raise
            self._put_back(worker)
        finally:
            slots.release()
        if kind == _DONE:
            return answer
        raise TaskFailed(answer.decode("utf-8", "replace"))

    def close(self) -> None:
        """End the processes that are free; the next task starts new ones."""
        for worker in self._idle:
            self._end(worker)
        self._idle.clear()
        for process in self._ending:
            process.wait(timeout=5)
        self._ending.clear()

    async def _worker(self, give_up_at: float) -> _Worker:
        if self._pid != os.getpid():  # a fork: the processes are the parent's
            self._idle, self._ending, self._pid = [], [], os.getpid()
        self._ending = [process for process in self._ending if process.poll() is None]
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            self._end(worker)
        try:
            worker = _Worker.start(self._maker, self._limits)
        except OSError as error:
            raise NoRoom(f"no process can be started: {error.strerror or error}") from error
        try:
            await asyncio.wait_for(worker.ready(), max(give_up_at - time.monotonic(), 0.001))
        except BaseException as error:
            self._end(worker)
            if isinstance(error, TimeoutError):
                raise NoRoom("no process could be started in time") from error
            if isinstance(error, OSError):
                raise NoRoom("a process ended while it was started") from error
            raise
        return worker

    def _put_back(self, worker: _Worker) -> None:
        if worker.tasks < self._limits.tasks:
            self._idle.append(worker)
        else:
            self._end(worker)

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.line.close()
        self._ending.append(worker.process)


@dataclass(slots=True)
class _Worker:
    """A process and the line to it."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    tasks: int = field(default=0)

    @classmethod
    def start(cls, maker: str, limits: SandboxLimits) -> _Worker:
        """A new process, which is not ready yet. Raises OSError: the machine has no memory, process or handle left."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        arguments = (theirs.fileno(), maker, limits.memory_bytes, limits.seconds)
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-c", f"from {__name__} import serve; serve{arguments!r}"],
                    pass_fds=(theirs.fileno(),),
                    env=environment,
                    cwd=_PROJECT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    async def ready(self) -> None:
        """Wait until the function is loaded. Raises NoRoom where it cannot be, and OSError."""
        kind, answer = await self._answer()
        if kind != _READY:
            raise NoRoom(f"the process cannot be used: {answer.decode('utf-8', 'replace')}")

    async def ask(self, task: bytes) -> tuple[int, bytes]:
        """Kind and bytes of the answer. Raises OSError: the process is gone."""
        self.tasks += 1
        await asyncio.get_running_loop().sock_sendall(self.line, _LENGTH.pack(_TASK, len(task)) + task)
        return await self._answer()

    async def _answer(self) -> tuple[int, bytes]:
        kind, length = _LENGTH.unpack(await self._bytes(_LENGTH.size))
        return kind, await self._bytes(length)

    async def _bytes(self, count: int) -> bytes:
        loop, parts = asyncio.get_running_loop(), bytearray()
        while len(parts) < count:
            part = await loop.sock_recv(self.line, min(count - len(parts), 1 << 20))
            if not part:
                raise ConnectionResetError("the process closed its line")
            parts += part
        return bytes(parts)


def serve(descriptor: int, maker: str, memory_bytes: int, seconds: float) -> None:
    """Be the process of a sandbox: answer tasks until whoever started it is gone.

    Args:
        descriptor: of the line's socket.
        maker: see `Sandbox`.
        memory_bytes: limit of the address space.
        seconds: of processor time for each task.
    """
    line = socket.socket(fileno=descriptor)
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    with line, line.makefile("rwb") as messages:

        def say(kind: int, body: bytes = b"") -> None:
            messages.write(_LENGTH.pack(kind, len(body)) + body)
            messages.flush()

        module, _, attribute = maker.partition(":")
        try:
            function = getattr(import_module(module), attribute)()
        except Exception as error:
            return say(_FAILED, _words_of(error))
        say(_READY)
        while head := messages.read(_LENGTH.size):
            task = messages.read(_LENGTH.unpack(head)[1])
            _allow_cpu(seconds)
            try:
                answer = function(task)
            except Exception as error:  # whatever a parser makes of hostile input
                say(_FAILED, _words_of(error))
            else:
                say(_DONE, answer)


def _allow_cpu(seconds: float) -> None:
    """Let the next task run, also where nobody is left to kill it: past the limit the kernel ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + 2)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _words_of(error: Exception) -> bytes:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_MOST_ERROR_CHARS].encode("utf-8", "backslashreplace")
