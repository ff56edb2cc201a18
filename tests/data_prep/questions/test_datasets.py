"""Question sets: each release's own format and the hub's copies, bad rows listed, one line for bad input."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from support.processes.commands import status_of

from data_prep.questions.__main__ import main
from data_prep.questions.qa_datasets import DATASETS, read_row
from r1_searcher.episode.question import QARow, read_rows

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data" / "raw_samples"
DOCS = ROOT / "docs" / "data.md"

HOTPOTQA = {
    "_id": "5a7",
    "question": "Which  is older?",
    "answer": "Alpha",
    "type": "comparison",
    "supporting_facts": [["Alpha", 0], ["Alpha", 1], ["Beta", 0]],
    "context": [["Alpha", ["One."]]],
}
HOTPOTQA_HUB = {
    **{key: value for key, value in HOTPOTQA.items() if key != "_id"},
    "id": "5a7",
    "supporting_facts": {"title": ["Alpha", "Alpha", "Beta"], "sent_id": [0, 1, 0]},
}
HOTPOTQA_FLASHRAG = {
    "id": "t0",
    "question": "Which is older?",
    "golden_answers": ["Alpha"],
    "metadata": {"type": "comparison", "supporting_facts": {"title": ["Alpha", "Beta"], "sent_id": [0, 0]}},
}
TRIVIAQA = {
    "QuestionId": "tc_1",
    "Question": "Which author?",
    "Answer": {"Value": "Lewis", "Aliases": ["Sinclair Lewis", "Lewis"], "NormalizedAliases": ["lewis"]},
}
TRIVIAQA_HUB = {
    "question_id": "tc_1",
    "question": "Which author?",
    "answer": {"value": "Lewis", "aliases": ["Sinclair Lewis"], "normalized_aliases": ["lewis"]},
}
MUSIQUE = {
    "id": "3hop1__1_2_3",
    "question": "Who?",
    "answer": "Ann",
    "answer_aliases": ["Anne", "Ann"],
    "answerable": True,
    "paragraphs": [{"title": "A", "is_supporting": True}, {"title": "B", "is_supporting": False}],
}
POPQA = {
    "id": 4222362,
    "question": "What is it?",
    "possible_answers": '["politician", "political leader"]',
    "s_wiki_title": "George Rankin",
}
TWO_WIKI = {**HOTPOTQA, "type": "bridge_comparison", "evidences": [["a", "b", "c"]]}


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("hotpotqa", HOTPOTQA, QARow("5a7", "Which is older?", ("Alpha",), "hotpotqa", 2, ("Alpha", "Beta"))),
        ("hotpotqa", HOTPOTQA_HUB, QARow("5a7", "Which is older?", ("Alpha",), "hotpotqa", 2, ("Alpha", "Beta"))),
        ("hotpotqa", HOTPOTQA_FLASHRAG, QARow("t0", "Which is older?", ("Alpha",), "hotpotqa", 2, ("Alpha", "Beta"))),
        ("2wiki", TWO_WIKI, QARow("5a7", "Which is older?", ("Alpha",), "2wiki", 4, ("Alpha", "Beta"))),
        ("musique", MUSIQUE, QARow("3hop1__1_2_3", "Who?", ("Ann", "Anne"), "musique", 3, ("A",))),
        ("bamboogle", {"Question": "Q?", "Answer": "a"}, QARow("row", "Q?", ("a",), "bamboogle", 2)),
        ("nq", {"question": "q", "answer": ["a", "b"]}, QARow("row", "q", ("a", "b"), "nq")),
        ("triviaqa", TRIVIAQA, QARow("tc_1", "Which author?", ("Lewis", "Sinclair Lewis"), "triviaqa")),
        ("triviaqa", TRIVIAQA_HUB, QARow("tc_1", "Which author?", ("Lewis", "Sinclair Lewis"), "triviaqa")),
        (
            "popqa",
            POPQA,
            QARow("4222362", "What is it?", ("politician", "political leader"), "popqa", 1, ("George Rankin",)),
        ),
    ],
)  # fmt: skip
def test_a_row_of_each_set(name, raw, expected):
    assert read_row(DATASETS[name], raw, "row") == expected


def read(tmp_path: Path, name: str, file: str, text: str, *more: str) -> list[QARow]:
    (tmp_path / file).write_text(text, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert main(["--dataset", name, "--input", str(tmp_path / file), "--out", str(out), *more]) == 0
    return read_rows(out)


def test_local_files_of_every_ending(tmp_path):
    lines = "".join(json.dumps({"question": f"q{n}", "answer": [f"a{n}"]}) + "\n\n" for n in range(3))
    assert [row.id for row in read(tmp_path, "nq", "dev.jsonl", lines)] == ["nq-dev-1", "nq-dev-3", "nq-dev-5"]
    assert read(tmp_path, "hotpotqa", "train.json", json.dumps([HOTPOTQA]))[0].titles == ("Alpha", "Beta")
    assert read(tmp_path, "triviaqa", "web.json", json.dumps({"Data": [TRIVIAQA], "Version": 1.0}))[0].id == "tc_1"
    table = 'Question,Answer\n"Who, exactly?",Ann\n'
    assert read(tmp_path, "bamboogle", "bamboogle.csv", "\ufeff" + table)[0].question == "Who, exactly?"
    tsv = 'id\tquestion\tpossible_answers\ts_wiki_title\n7\tq\t"[""a"", ""b""]"\tPage\n'
    assert read(tmp_path, "popqa", "popQA.tsv", tsv) == [QARow("7", "q", ("a", "b"), "popqa", 1, ("Page",))]


def test_a_folder_in_the_hubs_layout(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    for split, count in (("train", 3), ("validation", 2)):
        rows = [{**HOTPOTQA_HUB, "id": f"{split}{number}"} for number in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    arguments = ["--dataset", "hotpotqa", "--input", str(folder), "--out", str(out)]
    assert main(arguments) == 0 and [row.id for row in read_rows(out)] == ["train0", "train1", "train2"]
    assert main([*arguments, "--split", "validation"]) == 0 and len(read_rows(out)) == 2
    assert read_rows(out)[0].titles == ("Alpha", "Beta")
    assert main([*arguments, "--split", "nowhere"]) == 2


def test_bad_rows_are_counted_and_listed(tmp_path, caplog):
    rows = [MUSIQUE, {**MUSIQUE, "id": "x", "answerable": False}, {**MUSIQUE, "id": "y", "question": " "}, [1], MUSIQUE]
    rows += [
        {**MUSIQUE, "id": "z", "answer": None, "answer_aliases": []},
        {**MUSIQUE, "id": "t", "paragraphs": [{}, 3]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"id": \n'
    assert len(read(tmp_path, "musique", "a.jsonl", text)) == 1
    listed = [json.loads(line) for line in (tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()]
    said = [
        "cannot be answered",
        "'question'",
        "JSON object",
        "an earlier row has the id",
        "'answers'",
        "get",
        "not JSON",
    ]
    assert [row["number"] for row in listed] == [2, 3, 4, 5, 6, 7, 8]
    assert all(word in row["why"] for word, row in zip(said, listed, strict=True)), listed
    assert "7 of 8 rows cannot be read" in caplog.text
    read(tmp_path, "musique", "a.jsonl", json.dumps(MUSIQUE))
    assert not (tmp_path / "out.jsonl.bad.jsonl").exists()


def test_a_sample_follows_from_the_seed_whatever_the_order(tmp_path):
    lines = [json.dumps({"id": str(n), "question": f"q{n}", "answer": ["a"]}) + "\n" for n in range(50)]
    sample = read(tmp_path, "nq", "a.jsonl", "".join(lines), "--sample", "5")
    assert sample == read(tmp_path, "nq", "b.jsonl", "".join(reversed(lines)), "--sample", "5")
    assert sample != read(tmp_path, "nq", "a.jsonl", "".join(lines), "--sample", "5", "--seed", "1")


@pytest.mark.parametrize(
    ("file", "text", "more", "said"),
    [
        ("a.jsonl", None, [], "no such file"),
        ("a.parquet", "x", [], "cannot be read as .parquet"),
        ("a.xlsx", "x", [], "unknown ending"),
        ("a.json", "[1", [], "cannot be read as .json"),
        ("a.json", "{", [], "cannot be read as .json"),
        ("a.json", '{"rows": 1}', [], "no row can be read as nq (JSON lines)"),
        ("a.json", '{"Data": 1}', [], "'Data'"),
        ("a.tsv", "who?\tAnn\n", [], "names no column question"),
        ("a.csv", "", [], "no row can be read"),
        ("a.jsonl", '{"question": "q"}\n', [], "no row can be read as nq"),
        ("a.jsonl", "", [], "no row can be read"),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a"}',
            ["--sample", "0"],
            "--sample: must be a whole number",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, file, text, more, said):
    if text is not None:
        (tmp_path / file).write_text(text)
    out = tmp_path / "out.jsonl"
    assert status_of(main, "--dataset", "nq", "--input", tmp_path / file, "--out", out, *more) == 2
    assert said in capsys.readouterr().err.splitlines()[-1] and not out.exists()


@pytest.mark.parametrize(
    ("folder", "counts"), [(ROOT / "tests/data/releases", {"hotpotqa": 4, "musique": 3}), (SHARED, {})]
)
def test_rows_as_released(tmp_path, folder, counts):
    if not folder.is_dir():
        pytest.skip(f"no real samples: {folder} is not here")
    for name, hops in (("hotpotqa", {2}), ("musique", {2, 4})):
        rows = read(tmp_path, name, f"{name}.jsonl", (folder / f"{name}.jsonl").read_text(encoding="utf-8"))
        assert len(rows) == counts.get(name, 5) and {row.hops for row in rows} == hops
        assert all(row.titles for row in rows) and len({row.id for row in rows}) == len(rows)


COMMANDS = re.findall(r"^(?:\S*/)?python -m (data_prep\S*) (.*)$", DOCS.read_text(encoding="utf-8"), flags=re.M)


def test_the_docs_show_a_command_of_every_step():
    steps = {"data_prep.questions", "data_prep.decontaminate", "data_prep.select", "data_prep.good_trajectories"}
    assert {module for module, _ in COMMANDS} == steps and len(COMMANDS) >= 5


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_the_commands_of_the_docs_are_taken(capsys, module, arguments):
    found = importlib.import_module(module)
    command = found if hasattr(found, "main") else importlib.import_module(f"{module}.__main__")
    with pytest.raises(SystemExit) as left:
        command.main(["--help"])
    known = re.findall(r"--[\w-]+", capsys.readouterr().out)
    assert left.value.code == 0 and set(re.findall(r"--[\w-]+", arguments)) - set(known) == set()


def test_the_docs_list_every_set():
    listed = re.findall(r"^\| `(\w+)` \| `([^`]+)`", DOCS.read_text(encoding="utf-8"), flags=re.M)
    assert listed == [(name, dataset.hub) for name, dataset in DATASETS.items()]


@pytest.mark.network
@pytest.mark.parametrize("name", DATASETS)
def test_the_hubs_copies(tmp_path, name):
    small = {"hotpotqa": "validation", "2wiki": "validation", "musique": "validation", "nq": "validation"}
    split = ["--split", small.get(name, DATASETS[name].split)]
    assert main(["--dataset", name, *split, "--sample", "20", "--out", str(tmp_path / "out.jsonl")]) == 0
    assert len(read_rows(tmp_path / "out.jsonl")) == 20
