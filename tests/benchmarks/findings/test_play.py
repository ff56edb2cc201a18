"""Playing the arms: their order, what is stored is not played again, and the commands of one play."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.runs.finding_rows import row

from benchmarks.findings import play as play_module
from benchmarks.findings.arms import find_arm
from benchmarks.findings.catalogue import FINDINGS
from benchmarks.findings.costs import cost_of
from benchmarks.findings.play import Play, Seed
from benchmarks.findings.rows import Rows
from benchmarks.findings.runner import missing_of, run_all
from data_prep.tiny.world import main as make_world
from eval.phases import PhaseFailed
from eval.play.options import parser as evaluation_parser


def test_arms_of_a_seed_are_played_side_by_side_and_none_is_always_first(rows: Rows) -> None:
    order = [(play.seed, play.arm.name) for play in missing_of(FINDINGS["mask"].arms, (1, 2), rows)]
    assert order == [(1, "no_mask"), (1, "mask"), (2, "mask"), (2, "no_mask")]
    taught = [play.arm.name for play in missing_of(FINDINGS["rl_or_sft"].arms, (1, 2, 3), rows)]
    assert taught == ["searching_stage2", "sft"] * 3


def test_what_is_stored_is_not_played_again_and_rows_are_stored_one_by_one(
    rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[tuple[str, int]] = []

    def play(each: Play, shared: Seed) -> dict[str, Any]:
        assert shared.seed == each.seed
        if len(played) == 3:
            raise PhaseFailed(3)
        played.append((each.arm.name, each.seed))
        return row(each.arm.name, each.seed, 0.5)

    arms = FINDINGS["mask"].arms
    with pytest.raises(PhaseFailed):
        run_all(arms, (1, 2), rows, play=play)
    assert len(played) == 3 and "an estimate" in capsys.readouterr().err
    run_all(arms, (1, 2), rows, play=lambda each, shared: row(each.arm.name, each.seed, 0.7))
    assert sum(len(rows.of(arm)) for arm in arms) == 4
    assert "1 runs to play, 3 stored; about 4 min\n" in capsys.readouterr().err


def test_costs_rest_on_stored_seconds(filled: Rows) -> None:
    mask, other, base = (find_arm(name) for name in ("mask", "stage2", "base"))
    assert str(cost_of([mask, mask], filled)) == "8 min"
    assert cost_of([other], filled).seconds == 240 and not cost_of([other], filled).measured
    assert cost_of([base], filled).seconds == 75 and str(cost_of([], filled)) == "1 min"
    assert "estimate" in str(cost_of([mask, base], filled))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that a play runs. Instead of each, what it would leave behind is made."""
    ran: list[list[str]] = []

    def run(words: list[str]) -> int:
        module, arguments = words[2], words[3:]
        ran.append([module, *arguments])
        if module == "eval.run":
            out = Path(arguments[arguments.index("--out") + 1])
            out.mkdir(parents=True)
            (out / "done").touch()
        return 0

    original = play_module.play_phases
    monkeypatch.setattr(
        play_module, "play_phases", lambda phases, ledger, search: original(phases, ledger, search, run)
    )
    monkeypatch.setattr(play_module, "scores_of", lambda folder: {"greedy": {"f1": float((folder / "done").is_file())}})
    return ran


class SmallSeed(Seed):
    """A seed with a small world and no services."""

    def __init__(self, seed: int, root: Path) -> None:
        self.seed, self._root = seed, root

    def world(self, preset: Any) -> Path:
        folder = self._root / "world"
        if not folder.exists():
            sizes = ["--stage1", "5", "--stage2", "30", "--heldout", "10", "--world", preset.tiny.world]
            assert make_world(["--out", str(folder), "--seed", str(self.seed), *sizes]) == 0
        return folder

    def search(self, corpus: Path, kind: str) -> str:
        return f"http://{corpus.stem}/{kind}"


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_a_play_trains_evaluates_and_makes_its_row(commands: list[list[str]], tmp_path: Path) -> None:
    play, shared = Play(find_arm("two_stages"), 10, tmp_path / "findings"), SmallSeed(10, tmp_path)
    found = play.run(shared)
    training, *evaluations = commands
    assert training[0] == "r1_searcher.train" and after(training, "--search") == "http://corpus_train/plain"
    assert after(training, "--switch") == "step:12" and after(training, "--seed") == "10"
    assert [after(words, "--search") for words in evaluations] == [
        f"http://corpus/{kind}" for kind in ("plain", "noisy", "web_like")
    ]
    assert all(after(words, "--model") == str(play.folder / "run" / "model") for words in evaluations)
    assert all(after(words, "--like") == str(play.folder / "run") for words in evaluations)
    assert all(evaluation_parser("").parse_args(words[1:]).also_sampled for words in evaluations)
    assert found["run"] == f"two_stages-{play.arm.digest}/seed10" and set(found["seconds"]) == {
        "training", "evaluation (plain)", "evaluation (noisy)", "evaluation (web_like)"
    }  # fmt: skip
    assert json.loads(json.dumps(found)) == found and len(found["world"]) == 12
    commands.clear()
    play.run(shared)
    assert commands == [], "every phase is done"


def test_the_base_is_evaluated_and_not_trained(commands: list[list[str]], tmp_path: Path) -> None:
    Play(find_arm("base"), 10, tmp_path / "findings").run(SmallSeed(10, tmp_path))
    assert [words[0] for words in commands] == ["eval.run"] * 3
    assert after(commands[0], "--recipe") == "tiny.stage2"
    assert after(commands[0], "--model").endswith("runs/tiny_bases/findings")


def test_sft_learns_from_the_episodes_of_its_teacher(commands: list[list[str]], tmp_path: Path) -> None:
    root = tmp_path / "findings"
    Play(find_arm("sft"), 10, root).run(SmallSeed(10, tmp_path))
    teacher = str(Play(find_arm("searching_stage2"), 10, root).folder / "run")
    assert [words[0] for words in commands] == ["data_prep.good_trajectories", "r1_searcher.sft", "eval.run"]
    assert commands[0][1] == teacher == after(commands[2], "--like")
    assert after(commands[1], "--out") == after(commands[2], "--model")
