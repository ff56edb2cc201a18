"""Kill a command at every moment at which it makes a file appear, finish it, and compare with an unbroken run.

    python tests/support/crashes/kill_points.py MODULE FOLDER ARGUMENT...   ({out} in an argument: the folder to build)

Every run is a fork, killed with SIGKILL just before or just after its n-th `os.replace`; then a second fork of the
same command has to finish. The folders must have the same files with the same bytes. Prints how many kills there were.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def main() -> int:
    module, folder, *arguments = sys.argv[1:]
    run = importlib.import_module(module).main
    for library in ("pyarrow.ipc", "faiss", "bm25s"):  # once, not in every fork
        importlib.import_module(library)
    expected = Path(folder) / "unbroken"
    assert in_a_fork(run, command(arguments, expected)) == 0, "the unbroken run failed"
    kills = 0
    for nth in itertools.count(1):
        for after in (False, True):
            out = Path(folder) / f"killed-{nth}-{after}"
            status = in_a_fork(run, command(arguments, out), kill_at=nth, after=after)
            if status == 0:
                print(kills)
                return 0
            assert status == -signal.SIGKILL, f"run {out.name} ended with {status}"
            kills += 1
            assert in_a_fork(run, command(arguments, out)) == 0, f"{out.name} could not be finished"
            assert files(out) == files(expected), f"{out.name} differs: {differing(out, expected)}"
    return 1


def command(arguments: list[str], out: Path) -> list[str]:
    return [argument.replace("{out}", str(out)) for argument in arguments]


def in_a_fork(run: Callable[[list[str]], int], argv: list[str], kill_at: int = 0, after: bool = False) -> int:
    """Exit code, or minus the signal; no library has started threads in this process yet, so forking is safe."""
    pid = os.fork()
    if pid == 0:
        count, replace = itertools.count(1), os.replace

        def dying_replace(source: object, target: object) -> None:
            last = next(count) == kill_at
            if last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)  # type: ignore[call-overload]
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = dying_replace  # type: ignore[assignment]
        code = 99
        try:
            code = run(argv)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differing(one: Path, other: Path) -> list[str]:
    first, second = files(one), files(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


if __name__ == "__main__":
    sys.exit(main())
