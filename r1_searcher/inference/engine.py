"""vLLM in this process, as policies. The only file of the room that imports vllm.

Training runs vLLM's asynchronous engine, whose core is a process of its own that imports everything again. An
evaluation needs one engine and nothing beside it: here the engine core runs in this process, stepped by one
thread, and is up in a third of the time.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from foundation.errors import InputError
from r1_searcher.episode.engine_policy import Outputs, Stream, WatchedEnginePolicy
from r1_searcher.episode.policy import StreamingPolicy
from r1_searcher.host.cpu import cuda_is_here
from r1_searcher.host.device import Device, detect, threads_for, worker_environment
from r1_searcher.inference.decoding import Decoding


def prepare_environment(device: Device | None = None, model: str | None = None, engines: int = 1) -> Device:
    """Set what torch and vLLM read when they are imported; what the user has set wins.

    Call it before anything imports torch. Gives the device: the one asked for, or what is there. Without a `model`
    a CPU's process gets one thread.
    """
    threads = 1 if model is None or cuda_is_here() else threads_for(model, at_once=engines)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # detect() imports torch
    device = detect()[0] if device is None else device
    wanted = worker_environment(device) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    return device


@contextlib.contextmanager
def console_apart(log_file: Path) -> Iterator[TextIO]:
    """Send everything that this process and its libraries print to a file; gives the console's stderr.

    Redirects the file descriptors, since part of it is printed by compiled code.
    """
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # Libraries continue printing (about leaks) while the interpreter shuts down.
    atexit.register(os.dup2, log, 2)
    saved = os.dup(1), os.dup(2)
    with os.fdopen(os.dup(2), "w", buffering=1) as console:
        _redirect((log, log))
        try:
            yield console
        finally:
            _redirect(saved)
            for descriptor in saved:
                os.close(descriptor)


def _redirect(targets: tuple[int, int]) -> None:
    """Point stdout and stderr to these descriptors."""
    for stream, descriptor, target in zip((sys.stdout, sys.stderr), (1, 2), targets, strict=True):
        stream.flush()
        os.dup2(target, descriptor)


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is started with."""

    model: str
    max_length: int
    """Tokens of an episode."""
    device: Device
    tensor_parallel_size: int = 1
    seed: int = 0
    trust_remote_code: bool = False
    """Whether code that the model brings may run."""
    memory_share: float | None = None
    """Of a GPU's memory, where several models share one; None is vLLM's default."""


def load_core(settings: EngineSettings) -> Any:
    """VLLM's engine with the model. Call `prepare_environment` first.

    Raises:
        InputError: vLLM cannot run this model here; the traceback is printed (to the engine's log).
    """
    arguments: dict[str, Any] = {
        "model": settings.model,
        "dtype": "bfloat16",
        "max_model_len": settings.max_length,
        "enforce_eager": settings.device is Device.CPU,
        "enable_prefix_caching": True,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "seed": settings.seed,
        "trust_remote_code": settings.trust_remote_code,
    }
    if settings.memory_share is not None:
        arguments["gpu_memory_utilization"] = settings.memory_share
    if settings.device is Device.CPU:
        # vLLM's CPU sampler fails on seeded requests whose prompt is computed in pieces.
        arguments["enable_chunked_prefill"] = False
    try:
        import vllm

        return vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
    except Exception as error:
        traceback.print_exc()
        raise InputError(f"vLLM cannot run {settings.model}: {_first_line(error)} (more in its log)") from error


@dataclass(frozen=True)
class TurnRequest:
    """One turn to be sampled."""

    name: str
    ids: list[int]
    params: Any
    """`vllm.SamplingParams`."""


def step_core(core: Any, new: Sequence[TurnRequest], given_up: Sequence[str] = ()) -> list[Any]:
    """Drop the requests that nobody waits for, add the new ones, and compute one token of every running one.

    Gives vLLM's outputs: the finished ones, and of requests that stream those in between.
    """
    if given_up:
        core.abort_request(list(given_up))
    for request in new:
        core.add_request(request.name, {"prompt_token_ids": request.ids}, request.params)
    outputs: list[Any] = core.step()
    return outputs


def policy_over(stream: Stream, decoding: Decoding) -> StreamingPolicy:
    """An engine under a decoding. With a seed, a context always continues the same way, in any batch."""
    from vllm import SamplingParams

    async def seeded(ids: list[int], params: Any, told: Outputs = _nobody) -> Any:
        params.seed = decoding.seed_of(ids)
        return await stream(ids, params, told)

    return WatchedEnginePolicy(seeded, seeded, SamplingParams(temperature=decoding.temperature, top_p=decoding.top_p))


def _nobody(output: Any) -> None:
    """Watches no request."""


class Replies:
    """The requests of an engine that somebody waits for; of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[asyncio.Future[Any], Outputs]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, name: str, told: Outputs) -> Any:
        """The output of a finished request; `told` is given those before it."""
        reply = asyncio.get_running_loop().create_future()
        self._waiting[name] = reply, told
        try:
            return await reply
        finally:
            self._waiting.pop(name, None)

    def answer(self, outputs: Iterable[Any]) -> None:
        """Hand outputs to those who wait for them; nobody may wait any more."""
        for output in outputs:
            reply, told = self._waiting.get(output.request_id, (None, _nobody))
            if reply is None or reply.done():
                continue
            if output.finished:
                reply.set_result(output)
                continue
            try:
                told(output)
            except Exception as error:  # of one watcher; the other episodes play on
                reply.set_exception(error)

    def fail(self, error: Exception) -> None:
        """The engine is broken: every waiting episode raises this."""
        for reply, _ in self._waiting.values():
            if not reply.done():
                reply.set_exception(error)


class VllmEngine:
    """One vLLM engine in this process; requests of concurrent episodes share its batches."""

    def __init__(self, engine: Any, thread: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._thread = thread
        self._names = (str(number) for number in count())
        self._new: list[TurnRequest] = []
        self._given_up: list[str] = []
        self._replies = Replies()
        self._stepping: asyncio.Task[None] | None = None

    @classmethod
    def start(cls, settings: EngineSettings) -> VllmEngine:
        """Load a model; see `load_core`."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vllm")
        # In the thread that will step it: the current CUDA device belongs to a thread.
        return cls(thread.submit(load_core, settings).result(), thread)

    def policy(self, decoding: Decoding) -> StreamingPolicy:
        """The model under a decoding; see `policy_over`."""
        return policy_over(self.generate, decoding)

    async def generate(self, ids: list[int], params: Any, told: Outputs = _nobody) -> Any:
        """One request from its ids to its end: vLLM's output of the finished request.

        Whoever stops waiting gives the request's place in the engine back.
        """
        request = TurnRequest(next(self._names), ids, params)
        self._new.append(request)
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._step_while_busy())
        try:
            return await self._replies.wait(request.name, told)
        except BaseException:
            if request in self._new:
                self._new.remove(request)
            else:
                self._given_up.append(request.name)
            raise

    @property
    def unfinished(self) -> int:
        """Requests in the engine."""
        return int(self._engine.get_num_unfinished_requests())

    async def _step_while_busy(self) -> None:
        loop = asyncio.get_running_loop()
        while self._replies or self._given_up:
            new, self._new = self._new, []
            given_up, self._given_up = self._given_up, []
            try:
                outputs = await loop.run_in_executor(self._thread, step_core, self._engine, new, given_up)
            except Exception as error:  # the engine is broken
                self._replies.fail(error)
                self._given_up.clear()
                return
            self._replies.answer(outputs)
            await asyncio.sleep(0)  # those who have their answer go on, and may ask again, before the next step

    def close(self) -> None:
        """Stop the thread; the engine's memory is freed with the process."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _first_line(error: BaseException) -> str:
    """The message of an error's innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
