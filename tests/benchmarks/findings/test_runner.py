"""Playing arms beside each other: their order, what is stored, what fails, what an interruption ends, what it costs."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.runs.finding_rows import row

from benchmarks.findings.arms import Arm, find_arm
from benchmarks.findings.catalogue import FINDINGS, SEEDS
from benchmarks.findings.commands import Commands
from benchmarks.findings.costs import cost_of
from benchmarks.findings.play import Play, Seed
from benchmarks.findings.rows import Rows
from benchmarks.findings.runner import missing_of, run_all
from eval.phases import PhaseFailed
from foundation.errors import InputError

MASK = FINDINGS["mask"].arms
SFT = FINDINGS["rl_or_sft"].arms
PATIENCE = 30.0


class Unprepared(Seed):
    """A seed whose arms need nothing."""

    def prepare(self, arm: Arm) -> None:
        pass


def ended(each: Play, f1: float = 0.5) -> dict[str, Any]:
    return row(each.arm.name, each.seed, f1)


def test_none_is_always_first_and_who_is_taught_comes_after_the_teacher(rows: Rows) -> None:
    order = [(play.seed, play.arm.name) for play in missing_of(MASK, (1, 2), rows)]
    assert order == [(1, "no_mask"), (1, "mask"), (2, "mask"), (2, "no_mask")]
    taught = [play.arm.name for play in missing_of(SFT, (1, 2, 3), rows)]
    assert taught == ["searching_stage2", "sft"] * 3


def test_arms_of_a_seed_meet_and_are_never_more_than_asked_for(rows: Rows) -> None:
    both, lock = threading.Barrier(2, timeout=PATIENCE), threading.Lock()
    seeds: list[int] = []
    most = 0

    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        nonlocal most
        with lock:
            seeds.append(each.seed)
            most = max(most, len(seeds))
        both.wait()  # alone it would wait in vain
        with lock:
            assert {each.seed} == set(seeds), "a seed's arms play together"
        both.wait()
        with lock:
            seeds.remove(each.seed)
        both.wait()
        return ended(each)

    run_all(FINDINGS["stages"].arms, (1, 2), rows, at_once=2, play=play, seed_of=Unprepared)
    assert most == 2
    stored = rows.of(find_arm("stage2"))
    assert [stored[seed]["at_once"] for seed in (1, 2)] == [2, 2]


def test_what_is_stored_is_not_played_again(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    run_all([MASK[0]], (1, 2), rows, at_once=1, play=lambda each, *_: ended(each), seed_of=Unprepared)
    played: list[str] = []

    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        played.append(str(each))
        return ended(each)

    run_all(MASK, (1, 2), rows, at_once=1, play=play, seed_of=Unprepared)
    assert played == [f"seed {seed}, {MASK[1].name}" for seed in (1, 2)]
    said = capsys.readouterr().err
    assert "2 runs to play, 1 at once, 2 stored; about 8 min (an estimate" in said
    assert "seed 2, mask: F1 0.500, greedy 0.500; took 1 min; none left\n" in said


def test_who_is_taught_waits_while_others_play(rows: Rows) -> None:
    taught, other = threading.Event(), threading.Event()

    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        if each.arm.name == "sft":
            assert rows.of(find_arm("searching_stage2")), "it learns from a finished run"
            taught.set()
        elif each.arm.name == "mask":
            other.set()
            assert taught.wait(PATIENCE)
        else:
            assert other.wait(PATIENCE), "the second place is not kept for the taught"
        return ended(each)

    run_all([*SFT, find_arm("mask")], (1,), rows, at_once=2, play=play, seed_of=Unprepared)
    assert taught.is_set()


def test_a_failed_arm_takes_only_the_taught_along(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        if each.seed == 1 and each.arm.name == "searching_stage2":
            raise PhaseFailed(3)
        if each.seed == 1 and each.arm.name == "mask":
            raise InputError("no such data")
        return ended(each)

    arms = [*SFT, *MASK]
    with pytest.raises(PhaseFailed) as failure:
        run_all(arms, (1, 2), rows, at_once=2, play=play, seed_of=Unprepared)
    assert failure.value.status in (2, 3)
    assert {(arm.name, seed) for arm in arms for seed in rows.of(arm)} == {
        ("no_mask", 1), *((arm.name, 2) for arm in arms)
    }  # fmt: skip
    said = capsys.readouterr().err
    assert "seed 1, searching_stage2: failed, a command ended with status 3; see " in said
    assert "seed 1, sft: failed, its teacher failed" in said and "seed 1, mask: failed, no such data" in said
    assert "3 runs failed" in said
    run_all(arms, (1, 2), rows, at_once=2, play=lambda each, *_: ended(each), seed_of=Unprepared)
    assert all(set(rows.of(arm)) == {1, 2} for arm in arms), "the same call continues"


def test_an_arm_that_cannot_be_prepared_fails_alone(rows: Rows) -> None:
    class Half(Seed):
        def prepare(self, arm: Arm) -> None:
            if arm.name == "mask":
                raise InputError("no such corpus")

    with pytest.raises(PhaseFailed) as failure:
        run_all(MASK, (1,), rows, at_once=1, play=lambda each, *_: ended(each), seed_of=Half)
    assert failure.value.status == 2 and set(rows.of(find_arm("no_mask"))) == {1}


def test_a_bug_ends_all(rows: Rows) -> None:
    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_all(MASK, (1, 2), rows, at_once=1, play=play, seed_of=Unprepared)


SLEEP = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]


def pid_in(file: Path) -> int:
    last = time.monotonic() + PATIENCE
    while not (file.is_file() and "\n" in file.read_text()):
        assert time.monotonic() < last, "the command did not begin"
        time.sleep(0.05)
    return int(file.read_text().split()[0])


def test_an_interruption_ends_what_runs(rows: Rows, tmp_path: Path) -> None:
    output = tmp_path / "output.log"

    class Interrupted(Seed):
        def prepare(self, arm: Arm) -> None:
            if arm.name == "mask":  # the second: by then the first is under way
                pid_in(output)
                raise KeyboardInterrupt

    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        raise PhaseFailed(commands.run(SLEEP, output))

    with pytest.raises(KeyboardInterrupt):
        run_all(MASK, (1,), rows, at_once=2, play=play, seed_of=Interrupted)
    assert not psutil.pid_exists(pid_in(output)) and not rows.of(find_arm("no_mask"))


def test_commands_keep_status_and_output_and_none_starts_after_the_end(tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    speak = [sys.executable, "-c", "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(7)"]
    with Commands() as commands:
        assert commands.run(speak, output) == commands.run(speak, output) == 7
    assert output.read_text() == "out\nerr\n" * 2
    assert commands.run(speak, output) == 130 and output.read_text() == "out\nerr\n" * 2


def test_costs_rest_on_stored_seconds(filled: Rows) -> None:
    mask, no_mask, other, base = (Play(find_arm(name), 10) for name in ("mask", "no_mask", "stage2", "base"))
    assert str(cost_of([mask, Play(mask.arm, 11)], filled, 2)) == "8 min"
    assert cost_of([mask, no_mask], filled, 2).seconds == 240, "beside each other"
    assert cost_of([mask, no_mask], filled, 3).seconds == 240, "one run is played by one process"
    assert cost_of([mask, no_mask, other], filled, 2).seconds == 480, "the third begins when a place is free"
    assert cost_of([other], filled, 2).seconds == 240 and not cost_of([other], filled, 2).measured
    assert cost_of([base], filled, 2).seconds == 69 and str(cost_of([], filled, 2)) == "1 min"
    assert "estimate" in str(cost_of([mask, base], filled, 2))
    assert "estimate" in str(cost_of([mask], filled, 1)), "alone a run takes another time than beside others"


def test_a_dry_run_plays_nothing(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    def play(each: Play, shared: Seed, commands: Commands) -> dict[str, Any]:
        raise AssertionError

    run_all(MASK, SEEDS[:1], rows, at_once=2, dry_run=True, play=play, seed_of=Unprepared)
    assert "seed 10, mask: documents masked" in capsys.readouterr().err
