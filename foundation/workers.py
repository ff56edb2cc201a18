"""Work on all cores: independent tasks in processes that end with this one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from foundation.errors import RunAborted
from foundation.process import stop_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDied(RunAborted):
    """A worker process ended without a result, most often for lack of memory."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def finished(
    function: Callable[[Task], Result], tasks: Sequence[Task], processes: int
) -> Iterator[tuple[Task, Result]]:
    """Tasks with their results, in the order in which they get done.

    Args:
        function: importable by name, and without state.
        processes: how many at once; with one, the work is done in this process.

    Raises:
        WorkerDied: a process was killed. Exceptions of `function` are passed on.
    """
    if processes == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, function(task)
        return
    # Spawned, not forked: a fork of a process with threads (torch, faiss) can hang.
    context = multiprocessing.get_context("spawn")
    workers = min(processes, len(tasks))
    with ProcessPoolExecutor(workers, context, initializer=stop_with_parent, initargs=(os.getpid(),)) as pool:
        futures = {pool.submit(function, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a worker process was killed, most often for lack of memory; the same command continues from here, "
                f"with fewer processes than {workers} if it happens again"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
