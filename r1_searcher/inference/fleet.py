"""Several vLLM engines as one: a process for each, every one with GPUs of its own.

All turns of an episode go to the same engine, which still has their beginning in its prefix cache. Episodes are told
apart by their contexts (`contextvars`): each task has one, and a conversation with a user's own agent keeps one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from foundation.errors import InputError, RunAborted
from r1_searcher.episode.engine_policy import Outputs
from r1_searcher.episode.policy import StreamingPolicy
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.engine import (
    EngineSettings,
    Replies,
    TurnRequest,
    load_core,
    policy_over,
    prepare_environment,
    step_core,
)

VISIBLE = "CUDA_VISIBLE_DEVICES"
_READY = "ready"
_ENDED = "an engine's process has ended; its log says why"


@dataclass
class _EngineProcess:
    """One engine in a process of its own; requests of concurrent episodes share its batches."""

    process: Any
    connection: Connection

    def __post_init__(self) -> None:
        self._names = (str(number) for number in itertools.count())
        self._replies = Replies()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, daemon=True).start()

    async def generate(self, ids: list[int], params: Any, told: Outputs) -> Any:
        """One request from its ids to its end; see `VllmEngine.generate`."""
        request = TurnRequest(next(self._names), ids, params)
        self._send(request)
        try:
            return await self._replies.wait(request.name, told)
        except BaseException:
            with contextlib.suppress(RunAborted):
                self._send(request.name)
            raise

    @property
    def unfinished(self) -> int:
        """Requests in the engine."""
        return len(self._replies)

    def close(self) -> None:
        """End the process; its GPUs are free then."""
        self.process.terminate()
        self.process.join()
        self.connection.close()

    def _read(self) -> None:
        try:
            while True:
                self._loop.call_soon_threadsafe(self._replies.answer, self.connection.recv())
        except (EOFError, OSError):
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._replies.fail, RunAborted(_ENDED))

    def _send(self, message: TurnRequest | str) -> None:
        """A request, or the name of one that is given up. Raises `RunAborted` where the process has ended."""
        try:
            self.connection.send(message)
        except OSError as error:
            raise RunAborted(_ENDED) from error


class Fleet:
    """Engines side by side."""

    def __init__(self, engines: Sequence[_EngineProcess]) -> None:
        self._engines = engines
        self._next: Iterator[_EngineProcess] = itertools.cycle(engines)
        # Of a fleet, not of the module: a service has one for each model, and an episode asks one of them.
        self._of_episode: ContextVar[_EngineProcess] = ContextVar("engine")

    @classmethod
    async def start(cls, settings: EngineSettings, count: int, gpus: Sequence[str]) -> Fleet:
        """Load the model in each engine, all at the same time.

        Args:
            settings: of each engine.
            count: engines.
            gpus: what `CUDA_VISIBLE_DEVICES` names; empty on a machine without GPUs.

        Raises:
            InputError: there are not as many GPUs, or vLLM cannot run the model; its log says why.
        """
        shares = shares_of(gpus, count, settings.tensor_parallel_size)
        started = [start_engine(settings, share) for share in shares]
        for _, connection in started:
            try:
                answer = await asyncio.to_thread(connection.recv)
            except EOFError:
                answer = f"vLLM cannot run {settings.model}: an engine's process has ended (more in its log)"
            if answer != _READY:
                for each, _ in started:
                    each.terminate()
                raise InputError(answer)
        return cls([_EngineProcess(process, connection) for process, connection in started])

    def policy(self, decoding: Decoding) -> StreamingPolicy:
        """The model under a decoding; see `VllmEngine.policy`."""
        return policy_over(self.generate, decoding)

    async def generate(self, ids: list[int], params: Any, told: Outputs = lambda output: None) -> Any:
        """One request, to the engine of the episode: that of the context in which all its turns are sampled."""
        engine = self._of_episode.get(None)
        if engine is None:
            self._of_episode.set(engine := next(self._next))
        return await engine.generate(ids, params, told)

    @property
    def unfinished(self) -> int:
        """Requests in the engines."""
        return sum(engine.unfinished for engine in self._engines)

    def close(self) -> None:
        """End all engines."""
        for engine in self._engines:
            engine.close()


def shares_of(gpus: Sequence[str], engines: int, each: int) -> list[str]:
    """The GPUs of every engine, as `CUDA_VISIBLE_DEVICES` takes them; empty strings without any.

    Raises:
        InputError: there are not as many.
    """
    if not gpus:
        return [""] * engines
    if len(gpus) < engines * each:
        raise InputError(
            f"{engines} engines of {each} GPUs need {engines * each}, and this machine has {len(gpus)}; lower --engines"
        )
    return [",".join(gpus[number * each : (number + 1) * each]) for number in range(engines)]


def visible_gpus(count: int) -> list[str]:
    """The GPUs that this process may use, by the names that its environment has for them."""
    named = os.environ.get(VISIBLE)
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def start_engine(settings: EngineSettings, gpus: str) -> tuple[Any, Connection]:
    """An engine's process, and the line to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=serve_engine, args=(theirs, settings, gpus), daemon=settings.tensor_parallel_size == 1
    )
    process.start()
    theirs.close()
    return process, ours


def serve_engine(connection: Connection, settings: EngineSettings, gpus: str) -> None:
    """An engine's process: takes requests and answers them until the connection is closed."""
    if gpus:
        os.environ[VISIBLE] = gpus  # read when torch is imported, which nothing has done yet
    prepare_environment(settings.device)
    try:
        core = load_core(settings)
    except InputError as error:
        connection.send(str(error))
        return
    connection.send(_READY)
    running: set[str] = set()
    try:
        while True:
            told: list[TurnRequest | str] = []
            while connection.poll(0) or not running and not told:
                told.append(connection.recv())
            new, given_up = _sorted_out(told)
            outputs = step_core(core, new, given_up)
            running |= {request.name for request in new}
            running -= {*given_up, *(output.request_id for output in outputs if output.finished)}
            if outputs:
                connection.send(outputs)
    except (EOFError, OSError):
        return


def _sorted_out(told: Sequence[TurnRequest | str]) -> tuple[list[TurnRequest], list[str]]:
    """(new requests, names of those that are given up); who is both at once never reaches the engine."""
    given_up = [message for message in told if isinstance(message, str)]
    new = [message for message in told if isinstance(message, TurnRequest) and message.name not in given_up]
    return new, given_up
