"""Processes for hostile input: whatever a task does, the next one is served."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from pathlib import Path

import pytest

from foundation.sandbox import NoRoom, Sandbox, SandboxLimits, TaskFailed

FUNCTION = "support.hostile.misbehaviour:misbehaving"


@pytest.fixture(scope="module")
def sandbox():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        yield from _sandbox()


def _sandbox():
    made = Sandbox(FUNCTION, SandboxLimits(processes=1, seconds=1.0, memory_bytes=1 << 30, tasks=50))
    yield made
    made.close()


def run(sandbox, *tasks, within_s=30.0):
    async def scenario():
        return [await sandbox.run(task, within_s) for task in tasks]

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("task", "words"),
    [(b"hang", "takes more than 1 s"), (b"raise", "a parser failed"), (b"die", "ends the process"),
     (b"eat", "MemoryError")],
)  # fmt: skip
def test_a_task_that_goes_wrong_fails_alone(sandbox, task, words):
    with pytest.raises(TaskFailed, match=words):
        run(sandbox, task)
    assert run(sandbox, b"abc") == [b"cba"]


def test_one_process_serves_many_tasks_and_event_loops(sandbox):
    assert run(sandbox, b"pid") == run(sandbox, b"pid")
    large = bytes(range(256)) * 40_000
    assert run(sandbox, large) == [large[::-1]]


def test_a_process_sees_no_secrets(sandbox, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    sandbox.close()
    assert run(sandbox, b"secret") == [b"none"]


def test_a_process_makes_room_for_a_new_one_after_its_tasks(sandbox):
    strict = Sandbox(FUNCTION, SandboxLimits(processes=1, tasks=1))
    first, second = run(strict, b"pid", b"pid")
    assert first != second
    strict.close()


def test_who_finds_no_process_in_time_hears_so(sandbox):
    async def scenario():
        busy = asyncio.create_task(sandbox.run(b"hang", 30))
        await asyncio.sleep(0.1)
        with pytest.raises(NoRoom, match=r"no free process within 0\.2 s"):
            await sandbox.run(b"abc", 0.2)
        with pytest.raises(TaskFailed):
            await busy

    run(sandbox, b"warm")
    asyncio.run(scenario())


def test_who_gets_a_process_too_late_hears_that_it_was_for_want_of_one(sandbox):
    async def scenario():
        busy = asyncio.create_task(sandbox.run(b"hang", 30))
        await asyncio.sleep(0.05)
        with pytest.raises(NoRoom):
            await sandbox.run(b"hang", 1.5)
        with pytest.raises(TaskFailed):
            await busy

    run(sandbox, b"warm")
    asyncio.run(scenario())


def test_a_function_that_cannot_be_loaded_is_no_tasks_fault():
    with pytest.raises(NoRoom, match="No module named"):
        run(Sandbox("no_such_module:function"), b"abc")


@pytest.mark.parametrize("handles", [0, 2], ids=["no line to a process", "a line and no process"])
def test_a_machine_that_has_no_room_for_a_process_says_so(sandbox, handles):
    async def scenario():
        taken = {int(name) for name in os.listdir("/proc/self/fd")}
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = [number for number in range(max(taken) + handles + 2) if number not in taken]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[handles], limits[1]))
        try:
            with pytest.raises(NoRoom, match="no process can be started: Too many open files"):
                await sandbox.run(b"abc", 30)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        return len(os.listdir("/proc/self/fd")) - len(taken)

    sandbox.close()
    assert asyncio.run(scenario()) == 0, "no handle is left open"
    assert run(sandbox, b"abc") == [b"cba"]


def test_a_cancelled_task_leaves_no_answer_for_the_next(sandbox):
    async def scenario():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sandbox.run(b"hang", 30), 0.2)
        return await sandbox.run(b"abc", 30)

    started = time.monotonic()
    assert asyncio.run(scenario()) == b"cba"
    assert time.monotonic() - started < 20
