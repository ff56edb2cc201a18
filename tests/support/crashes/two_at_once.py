"""Start a command in two processes together, many times: one works, the other says so, and nothing is lost.

    python tests/support/crashes/two_at_once.py ROUNDS MODULE FOLDER ARGUMENT...     ({out} in an argument: its folder)

Every process is a fork of this one, which has imported what the command imports, and waits for one signal to both: so
that they meet, and a round costs its work only. Prints how often the second was refused, as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

REFUSED = re.compile(r".*is held by \d+ on \S+ since .*: wait for it, or choose another place")
STAND_IN = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "work").open("a") as work:
    for part in range(20):
        work.write(f"{part}\\n"); work.flush(); time.sleep(0.01)
"""
"""In the place of OpenRLHF: two of it in one folder would mix their lines."""


def main() -> int:
    rounds, module, folder, *arguments = sys.argv[1:]
    run = command_of(module)

    def argv_for(out: Path) -> list[str]:
        return [argument.replace("{out}", str(out)) for argument in arguments]

    import_what_is_used(run, argv_for(Path(folder) / "alone"), Path(folder))
    refused = 0
    for number in range(int(rounds)):
        out = Path(folder) / f"round-{number}"
        ended = together(run, argv_for(out), Path(folder) / f"said-{number}")
        statuses = sorted(status for status, _ in ended)
        assert statuses[0] == 0 and statuses[1] in (0, 2), ended
        for status, said in ended:
            held = [line for line in said.splitlines() if REFUSED.fullmatch(line)]
            late = "holds a saved index already" in said  # an adoption that began when the other had ended
            assert len(held) + late == (status == 2), said
            assert "Traceback" not in said, said
            refused += len(held)
        check_whole(out)
    print(json.dumps({"rounds": int(rounds), "refused": refused}))
    return 0


def command_of(module: str) -> Callable[[Sequence[str]], int]:
    """The command; of a training all but the host itself, in whose place a stand-in works."""
    name = f"{module}.__main__" if Path(*module.split(".")).is_dir() else module
    loaded = importlib.import_module(name)
    if module == "r1_searcher.train":
        from r1_searcher.launch import supervisor

        supervisor.POLL_SECONDS = 0.05
        supervisor.Supervisor.command = lambda self: [sys.executable, "-S", "-c", STAND_IN, str(self.folder.path)]
        loaded.finish = lambda recipe, plugins, folder, steps: folder.mark_complete()
    if module == "r1_searcher.sft":
        loaded.host_command = lambda options, *_: [sys.executable, "-S", "-c", STAND_IN, str(options.out)]
    return loaded.main


def import_what_is_used(run: Callable[[Sequence[str]], int], argv: Sequence[str], folder: Path) -> None:
    """Let a fork run the command alone, and import here what it has imported on its way."""

    def and_tell(argv: Sequence[str]) -> int:
        status = run(argv)
        (folder / "imported").write_text("\n".join(sys.modules))
        return status

    (ended,) = together(and_tell, argv, folder / "said-alone", processes=1)
    assert ended[0] == 0, ended
    for name in (folder / "imported").read_text().splitlines():
        with contextlib.suppress(Exception):  # some can only be imported by their package
            importlib.import_module(name)


def together(
    run: Callable[[Sequence[str]], int], argv: Sequence[str], said: Path, *, processes: int = 2
) -> list[tuple[int, str]]:
    """Exit status and stderr of forks of the command that start at the same moment."""
    gate, opener = os.pipe()
    pids = []
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            os.dup2(os.open(f"{said}-{number}", os.O_CREAT | os.O_WRONLY), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 99
            try:
                os.read(gate, 1)  # ends when the last writer has closed its end
                status = run(argv)
            except SystemExit as left:
                status = left.code if isinstance(left.code, int) else 98
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    os.close(gate)
    os.close(opener)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return [(status, Path(f"{said}-{number}").read_text()) for number, status in enumerate(statuses)]


def check_whole(out: Path) -> None:
    """Nothing half, nothing doubled, and no lock is left."""
    left = [path for path in out.parent.rglob("*") if path.name.endswith((".lock", ".draft", ".making"))]
    assert not left, left
    for log in (out, out / "predictions.jsonl", out / "rollouts.jsonl"):
        if log.is_file():
            lines = log.read_text().splitlines()
            assert lines and len(set(lines)) == len(lines) and all(map(json.loads, lines)), lines
    if (out / "work").is_file():
        parts = (out / "work").read_text().splitlines()
        assert len(parts) % 20 == 0 and parts == [str(part) for part in range(20)] * (len(parts) // 20), parts


if __name__ == "__main__":
    sys.exit(main())
