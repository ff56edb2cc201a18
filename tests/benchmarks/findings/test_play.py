"""One play: its commands in their order, and its row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.findings import play as play_module
from benchmarks.findings.arms import find_arm
from benchmarks.findings.commands import Commands
from benchmarks.findings.play import Play, Seed
from data_prep.tiny.world import main as make_world
from eval.play.options import parser as evaluation_parser


class Written(Commands):
    """Commands that are written down. Instead of what each does, what it would leave behind is made."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[list[str]] = []

    def run(self, command: Sequence[str], output: Path) -> int:
        module, arguments = command[2], list(command[3:])
        self.ran.append([module, *arguments])
        assert output.parent.is_dir()
        if module == "eval.run":
            out = Path(after(arguments, "--out"))
            out.mkdir(parents=True)
            (out / "done").touch()
        return 0


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.setattr(play_module, "scores_of", lambda folder: {"greedy": {"f1": float((folder / "done").is_file())}})
    return Written()


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


def test_a_play_trains_evaluates_and_makes_its_row(
    commands: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play, shared = Play(find_arm("two_stages"), 10, tmp_path / "findings"), SmallSeed(10, tmp_path)
    found = play.run(shared, commands)
    training, *evaluations = commands.ran
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
    commands.ran.clear()
    monkeypatch.setattr("benchmarks.findings.play._commit", lambda: "another")
    again = play.run(shared, commands)
    assert commands.ran == [], "every phase is done"
    assert (again["commit"], again["started"]) == (found["commit"], found["started"]), "of what was trained"


def test_the_base_is_evaluated_and_not_trained(commands: Written, tmp_path: Path) -> None:
    Play(find_arm("base"), 10, tmp_path / "findings").run(SmallSeed(10, tmp_path), commands)
    assert [words[0] for words in commands.ran] == ["eval.run"] * 3
    assert after(commands.ran[0], "--recipe") == "tiny.stage2"
    assert after(commands.ran[0], "--model").endswith("runs/tiny_bases/findings")


def test_sft_learns_from_the_episodes_of_its_teacher(commands: Written, tmp_path: Path) -> None:
    root = tmp_path / "findings"
    Play(find_arm("sft"), 10, root).run(SmallSeed(10, tmp_path), commands)
    teacher = str(Play(find_arm("searching_stage2"), 10, root).folder / "run")
    assert [words[0] for words in commands.ran] == ["data_prep.good_trajectories", "r1_searcher.sft", "eval.run"]
    assert commands.ran[0][1] == teacher == after(commands.ran[2], "--like")
    assert after(commands.ran[1], "--out") == after(commands.ran[2], "--model")
