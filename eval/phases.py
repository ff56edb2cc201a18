"""Long work in phases: commands run one after the other, each of which resumes where a killed call stopped.

Finished phases are recorded in a file, so the same call resumes; each phase logs what is left.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.json_lines import JsonLines, read_finished
from r1_searcher.launch.services import run

SEARCH = "{search}"
"""Stands in a command for the search service's address, which is another at every call."""

BELIEVED_SECONDS = 600.0
"""How long phases must have run before their pace outweighs the plan: short ones may find their work done."""


class PhaseFailed(Exception):
    """A command of a phase ended with another status than 0; it has said why."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(frozen=True)
class Phase:
    """One command of this project."""

    name: str
    seconds: float
    """What it takes, about: the share of the whole that it is, and the time left as long as nothing else is known."""
    module: str
    arguments: tuple[str, ...]
    inputs: str = ""
    """Digest of what the arguments only name: files, a preset's flags."""
    sums_up: bool = False
    """Whether it only shows what the others have left, and runs again after any of them."""

    @property
    def searches(self) -> bool:
        """Whether it needs the search service."""
        return SEARCH in self.arguments

    @property
    def command(self) -> list[str]:
        """The words that make it what it is."""
        return [self.module, *self.arguments]


@dataclass
class Ledger:
    """The file of the phases that have run: for each time the command, its seconds, and whether it ended well."""

    file: Path
    lines: list[Mapping[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = list(read_finished(self.file)) if self.file.is_file() else []

    def holds(self, phase: Phase) -> bool:
        """Whether this command has ended well already, and nothing since then that it sums up."""
        done = [line for line in self.lines if line["done"]]
        if phase.sums_up:
            work = [place for place, line in enumerate(done) if not line.get("sums_up")]
            done = done[work[-1] :] if work else done
        same = [line for line in done if line["command"] == phase.command]
        return any(line.get("inputs", phase.inputs) == phase.inputs for line in same)

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase, those of interrupted calls included."""
        spent: dict[str, float] = {}
        for line in self.lines:
            spent[line["phase"]] = spent.get(line["phase"], 0.0) + line["seconds"]
        return spent

    def note(self, phase: Phase, seconds: float, *, done: bool) -> None:
        """Add a line. Raises as `JsonLines` does."""
        line = {"phase": phase.name, "seconds": round(seconds, 1), "done": done, "command": phase.command}
        line |= {"inputs": phase.inputs} if phase.inputs else {}
        line |= {"sums_up": True} if phase.sums_up else {}
        self.lines.append(line)
        lines = JsonLines(self.file)
        lines.append(line)
        lines.sync()
        lines.close()

    def seconds_left(self, phases: Sequence[Phase]) -> float:
        """Estimated time of the phases still to run, at the pace of the finished ones as far as it is known."""
        finished = [phase for phase in phases if self.holds(phase)]
        spent, planned = self.seconds(), sum(phase.seconds for phase in finished)
        taken = sum(spent.get(phase.name, 0.0) for phase in finished)
        pace = (taken + BELIEVED_SECONDS) / (planned + BELIEVED_SECONDS)
        return pace * sum(phase.seconds for phase in phases if phase not in finished)


def play_phases(
    phases: Sequence[Phase],
    ledger: Ledger,
    search: Callable[[], str],
    run_command: Callable[[Sequence[str]], int] = run,
) -> None:
    """Run what is not done yet, in order; each phase's title says where in the whole it is.

    Args:
        phases: all of them.
        ledger: what is done, and what it took.
        search: starts the search service where it does not run yet; gives its address.
        run_command: runs a command to its end and gives its status.

    Raises:
        PhaseFailed: a command failed; the same call continues with it.
    """
    for place, phase in enumerate(phases, start=1):
        if not ledger.holds(phase):
            print(_title(place, phase, phases, ledger), file=sys.stderr, flush=True)
            play_phase(phase, ledger, search, run_command)


def play_phase(
    phase: Phase, ledger: Ledger, search: Callable[[], str], run_command: Callable[[Sequence[str]], int] = run
) -> None:
    """Run one phase, done or not, and note it; arguments and errors as those of `play_phases`."""
    address = search() if phase.searches else ""
    started, status = time.monotonic(), None
    try:
        words = [address if word == SEARCH else word for word in phase.arguments]
        status = run_command([sys.executable, "-m", phase.module, *words])
    finally:
        ledger.note(phase, time.monotonic() - started, done=status == 0)
    if status != 0:
        raise PhaseFailed(status if status > 0 else 128 - status)


def _title(place: int, phase: Phase, phases: Sequence[Phase], ledger: Ledger) -> str:
    done = sum(each.seconds for each in phases if ledger.holds(each)) / max(sum(each.seconds for each in phases), 1e-9)
    bar = "#" * round(20 * done)
    return f"\n[{bar:.<20}] {place}/{len(phases)} {phase.name}; about {duration_text(ledger.seconds_left(phases))} left"


def duration_text(seconds: float) -> str:
    """Hours and minutes, at least one."""
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
