"""Plays arms seed by seed, several arms of a seed side by side, so that a drifting machine treats them alike."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from benchmarks.findings.arms import Arm
from benchmarks.findings.commands import Commands
from benchmarks.findings.costs import cost_of
from benchmarks.findings.measures import F1, GREEDY_F1
from benchmarks.findings.play import Play, Seed
from benchmarks.findings.rows import Row, Rows
from eval.phases import PhaseFailed, duration_text
from foundation.cli import ABORTED, BAD_INPUT, FAILED
from foundation.errors import InputError, R1SearcherError
from r1_searcher.launch.services import Services

AT_ONCE = max(1, len(os.sched_getaffinity(0)))
"""Arms beside each other where nothing else is asked for: a tiny training takes turns between engine and trainer, one
thread each, and so keeps about one core busy."""

Playing = Callable[[Play, Seed, Commands], Row]


def missing_of(arms: Sequence[Arm], seeds: Sequence[int], rows: Rows) -> list[Play]:
    """What is not stored yet, in the order in which it is played.

    Each seed begins with another arm, so that none is always the first. An arm that another teaches comes after it.
    """
    stored = {arm.name: rows.of(arm) for arm in arms}
    plays = []
    for place, seed in enumerate(seeds):
        turn = place % len(arms) if arms else 0
        turned = [*arms[turn:], *arms[:turn]]
        ordered = sorted(turned, key=lambda arm: bool(arm.taught_by))
        plays += [Play(arm, seed) for arm in ordered if seed not in stored[arm.name]]
    return plays


def run_all(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    rows: Rows,
    *,
    at_once: int = AT_ONCE,
    dry_run: bool = False,
    play: Playing = Play.run,
    seed_of: Callable[[int, Services], Seed] = Seed,
) -> None:
    """Say what it costs, then play what is missing and store each row as soon as it is there.

    Args:
        at_once: so many arms of a seed are played beside each other.
        dry_run: only say it.
        play: plays one arm for one seed.
        seed_of: makes what the arms of a seed share.

    Raises:
        PhaseFailed: some arms could not be played, the others were; the same call continues with them.
    """
    missing = missing_of(arms, seeds, rows)
    done = len(arms) * len(seeds) - len(missing)
    cost = cost_of(missing, rows, at_once)
    _tell(f"{len(missing)} runs to play, {at_once} at once, {done} stored; about {cost}")
    if dry_run:
        for each in missing:
            _tell(f"{each}: {each.arm.label}")
        return
    going = _Going(rows, at_once, play, missing)
    for seed in seeds:
        plays = [each for each in missing if each.seed == seed]
        if plays:
            with Services() as services:
                going.play_seed(plays, seed_of(seed, services))
    if going.failed:
        names = ", ".join(map(str, going.failed))
        _tell(f"{len(going.failed)} runs failed ({names}); the same command continues with them")
        raise PhaseFailed(next(iter(going.failed.values())))


class _Going:
    """The plays of one call: what is left, and what failed with which status."""

    def __init__(self, rows: Rows, at_once: int, play: Playing, plays: Iterable[Play]) -> None:
        self._rows, self._at_once, self._play = rows, at_once, play
        self._left = list(plays)
        self.failed: dict[Play, int] = {}

    def play_seed(self, plays: Sequence[Play], shared: Seed) -> None:
        """Play the arms of one seed; whoever interrupts it ends all of them."""
        waiting, running = list(plays), dict[Future[Row], _Started]()
        with ThreadPoolExecutor(self._at_once) as pool, Commands() as commands:
            while waiting or running:
                busy = {each.play.arm.name for each in running.values()}
                for each in _free(waiting, busy)[: self._at_once - len(running)]:
                    waiting.remove(each)
                    if self._may_start(each, shared):
                        _tell(f"{each}: begins; {each.folder}")
                        running[pool.submit(self._play, each, shared, commands)] = _Started(each, time.monotonic())
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._note(running.pop(future), future)

    def _may_start(self, each: Play, shared: Seed) -> bool:
        """Start what it needs; False where that fails, or where its teacher has failed."""
        if any(other.seed == each.seed and other.arm.name == each.arm.taught_by for other in self.failed):
            self._fail(each, FAILED, "its teacher failed")
            return False
        try:
            shared.prepare(each.arm)
        except R1SearcherError as error:
            self._fail(each, _status_of(error), str(error))
            return False
        return True

    def _note(self, started: _Started, future: Future[Row]) -> None:
        each = started.play
        try:
            row = future.result()
        except PhaseFailed as failure:
            self._fail(each, failure.status, f"a command ended with status {failure.status}; see {each.output}")
        except R1SearcherError as error:
            self._fail(each, _status_of(error), str(error))
        else:
            self._rows.add(each.arm, {**row, "at_once": self._at_once})
            self._left.remove(each)
            found = f"F1 {F1.of(row):.3f}, greedy {GREEDY_F1.of(row):.3f}"
            _tell(f"{each}: {found}; took {duration_text(time.monotonic() - started.at)}; {self._rest()}")

    def _fail(self, each: Play, status: int, reason: str) -> None:
        self.failed[each] = status
        self._left.remove(each)
        _tell(f"{each}: failed, {reason}; {self._rest()}")

    def _rest(self) -> str:
        if not self._left:
            return "none left"
        return f"{len(self._left)} left, about {cost_of(self._left, self._rows, self._at_once)}"


@dataclass(frozen=True)
class _Started:
    play: Play
    at: float


def _free(waiting: Sequence[Play], busy: set[str]) -> list[Play]:
    """Those whose teacher is neither waiting nor busy."""
    unfinished = busy | {each.arm.name for each in waiting}
    return [each for each in waiting if each.arm.taught_by not in unfinished]


def _status_of(error: R1SearcherError) -> int:
    return BAD_INPUT if isinstance(error, InputError) else ABORTED


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
