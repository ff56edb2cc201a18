"""The quickstart's phases: their order, what each is told, the table of times, and its end where one fails."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from eval import quickstart
from r1_searcher import ask


@pytest.fixture
def commands(monkeypatch, tmp_path) -> list[list[str]]:
    """What is run, in its order, a command as its words; nothing is really run."""
    ran: list[list[str]] = []

    def run(command):
        ran.append([str(word) for word in command[2:]])
        return 0

    def make(*words):
        ran.append(list(words))
        world = Path(after(list(words), "--out"))
        world.mkdir(parents=True, exist_ok=True)
        (world / "heldout.jsonl").write_text('{"id": "1", "question": "Who wrote it ?", "answers": ["A"]}\n')

    def start(services, name, module, *arguments):
        ran.append([module, *arguments])
        return f"http://served/{name}"

    monkeypatch.setattr(quickstart, "run", run)
    monkeypatch.setattr("r1_searcher.launch.playground.run_module", make)
    monkeypatch.setattr("r1_searcher.launch.playground.RUNS", tmp_path / "runs")
    monkeypatch.setattr(quickstart, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(quickstart.Services, "start", start)
    return ran


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_each_stage_starts_from_the_one_before_and_each_model_is_evaluated(commands, tmp_path):
    out = tmp_path / "out"
    given = ["--out", str(out), "--seed", "3", "--setup-seconds", "12", "--no-document-mask", "--actor.adam.lr", "1e-3"]
    assert quickstart.main(given) == 0
    expected = [
        "data_prep.tiny_world",
        "retriever.server",
        "retriever.server",
        "eval.run",
        *["r1_searcher.train", "eval.run"] * 2,
    ]
    assert [words[0] for words in commands] == [*expected, "eval.quickstart_report", "eval.report"]
    world, whole, training, base, stage1, after1, stage2, after2, *_ = commands
    assert after(base, "--model") == after(stage1, "--actor.model_name_or_path")
    assert after(after1, "--model") == after(stage2, "--actor.model_name_or_path") == str(out / "stage1_run" / "model")
    assert after(after2, "--model") == str(out / "stage2_run" / "model")
    folder = Path(after(world, "--out"))
    assert after(whole, "--corpus") == str(folder / "corpus.jsonl")
    assert after(training, "--corpus") == str(folder / "corpus_train.jsonl")
    for words in (stage1, stage2):
        assert after(words, "--search") == "http://served/training_retriever"
        assert words[-3:] == ["--no-document-mask", "--actor.adam.lr", "1e-3"] and after(words, "--seed") == "3"
    for words in (base, after1, after2):
        assert "--no-document-mask" not in words and after(words, "--search") == "http://served/retriever"
    table = dict(line.split("\t") for line in (out / "seconds.tsv").read_text().splitlines())
    phases = ["setup", "world", "evaluate_base", "stage1", "evaluate_stage1", "stage2", "evaluate_stage2"]
    assert list(table) == phases and table["setup"] == "12"


def test_the_last_line_asks_the_trained_model_a_question(commands, tmp_path, capsys):
    out = tmp_path / "an out"
    assert quickstart.main(["--out", str(out), "--seed", "0"]) == 0
    _, _, last = capsys.readouterr().out.rstrip().rpartition("Ask the model: ")
    python, *words = shlex.split(last)
    assert python == sys.executable and words[:2] == ["-m", "r1_searcher.ask"]
    options = ask.parser().parse_args(words[2:])
    assert options.model == str(out / "stage2_run" / "model") and options.question == "Who wrote it ?"
    assert options.search == f"corpus:{tmp_path / 'runs' / 'tiny_world_seed0' / 'corpus.jsonl'}"


def test_a_small_one_has_a_world_and_a_folder_of_its_own(commands, tmp_path):
    assert quickstart.main(["--small"]) == 0
    assert commands[0][-6:] == list(quickstart.SMALL)
    assert after(commands[0], "--out") == str(tmp_path / "runs" / "tiny_world_seed3_small")
    assert (tmp_path / "runs" / "quickstart_small" / "seconds.tsv").is_file()


@pytest.mark.parametrize(("status", "shown"), [(2, 2), (130, 130), (-15, 143)])
def test_a_phase_that_fails_ends_it_with_its_status(commands, tmp_path, monkeypatch, status, shown):
    monkeypatch.setattr(quickstart, "run", lambda command: status if "r1_searcher.train" in command else 0)
    assert quickstart.main(["--out", str(tmp_path / "out")]) == shown
    phases = [line.split("\t")[0] for line in (tmp_path / "out" / "seconds.tsv").read_text().splitlines()]
    assert phases == ["setup", "world", "evaluate_base"]


def test_a_folder_that_cannot_be_written_is_one_line(commands, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert quickstart.main(["--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err and commands == []
