"""Question files as they are published or saved: whose key holds what, and that nothing is read as something else."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile.any_files import encoded, json_lines, lines_in
from support.processes.commands import status_of

from data_prep.questions.__main__ import load, main
from data_prep.questions.qa_datasets import DATASETS, read_row
from data_prep.questions.raw_rows import from_file
from foundation.errors import InputError
from r1_searcher.episode.question import read_rows

DUNE = ("who wrote dune", ("Frank Herbert",))
SEARCH_R1_PROMPT = (
    "Answer the given question. For example, <answer> Beijing </answer>. Question: who wrote dune?\n"  # nq_search.py
)


def answered(tmp_path: Path, file: str, content: str | bytes) -> list[tuple[str, tuple[str, ...]]]:
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    out = tmp_path / "out.jsonl"
    assert main(["--dataset", "nq", "--input", str(tmp_path / file), "--out", str(out)]) == 0
    return [(row.question, row.answers) for row in read_rows(out)]


def bad_lines(tmp_path: Path) -> list[int]:
    listed = tmp_path / "out.jsonl.bad.jsonl"
    return [json.loads(line)["number"] for line in listed.read_text().splitlines()] if listed.exists() else []


ROWS = [
    # DPR, dpr/data/retriever_data.py, JsonlQASrc
    ({"question": "who wrote dune", "answers": ["Frank Herbert"]}, DUNE),
    # FiD and Atlas: the target is what is trained on, all answers count
    (
        {"question": "who wrote dune", "target": "F. Herbert", "answers": ["Frank Herbert", "F. Herbert"]},
        ("who wrote dune", ("F. Herbert", "Frank Herbert")),
    ),
    # KILT's task files; the second output is a proof without an answer (KiltJsonlQASrc skips it, too)
    ({"id": "1", "input": "who wrote dune", "output": [{"answer": "Frank Herbert"}, {"provenance": []}]}, DUNE),
    # FlashRAG
    ({"id": "t0", "question": "who wrote dune", "golden_answers": ["Frank Herbert"], "metadata": {}}, DUNE),
    # SQuAD's copy on the hub
    ({"question": "who wrote dune", "answers": {"text": ["Frank Herbert"], "answer_start": [1]}}, DUNE),
    # Search-R1, scripts/data_process/nq_search.py
    (
        {
            "data_source": "nq",
            "prompt": [{"role": "user", "content": SEARCH_R1_PROMPT}],
            "reward_model": {"style": "rule", "ground_truth": {"target": ["Frank Herbert"]}},
            "extra_info": {"split": "train", "index": 0},
        },
        ("who wrote dune?", ("Frank Herbert",)),
    ),
    # verl, examples/data_preprocess/preprocess_search_r1_dataset.py: a system message before the user's
    (
        {
            "prompt": [{"role": "system", "content": "You search."}, {"role": "user", "content": SEARCH_R1_PROMPT}],
            "reward_model": {"ground_truth": {"target": ["Frank Herbert"]}},
        },
        ("who wrote dune?", ("Frank Herbert",)),
    ),
    # ReSearch, data/prepare_musique.py
    (
        {
            "question": "who wrote dune",
            "reward_model": {"style": "rule", "ground_truth": ["Frank Herbert"]},
            "extra_info": {"id": "2hop__1"},
        },
        DUNE,
    ),
    # DeepResearcher: the golds in one string, the prompt is the question
    (
        {
            "prompt": [{"role": "user", "content": "who wrote dune"}],
            "reward_model": {"ground_truth": "Frank Herbert<|answer_split|>F. Herbert"},
        },
        ("who wrote dune", ("Frank Herbert", "F. Herbert")),
    ),
    # R1-Searcher, data/training_set/stage_1.jsonl
    ({"idx": 37653, "question": "who wrote dune", "answer": "Frank Herbert", "pred_anses": ["", " x "]}, DUNE),
    ({"question": "when", "answer": 1965}, ("when", ("1965",))),
    ({"question": "is it", "answer": True}, ("is it", ("yes",))),
    ({"question": "when", "answers": [1965.0, "MCMLXV", True]}, ("when", ("1965", "MCMLXV", "yes"))),
]


@pytest.mark.parametrize(("raw", "expected"), ROWS)
def test_a_row_of_each_system(raw, expected):
    row = read_row(DATASETS["nq"], raw, "row")
    assert (row.question, row.answers) == expected


@pytest.mark.parametrize(
    "raw",
    [
        {"question": "q", "answers": [None, ""]},
        {"question": "q", "answer": float("nan")},
        {"question": "q", "output": [{"provenance": []}]},
        {"question": "q", "reward_model": {"ground_truth": {}}},
        {"prompt": [{"role": "user", "content": "Many lines\nand no marker"}], "answer": "a"},
        {"prompt": [{"role": "system", "content": "Question: q"}], "answer": "a"},
        {"prompt": [7], "answer": "a"},
        {"question": "half \ud83d", "answer": "a"},
        {"question": "q", "answers": [{"a": 1}]},
    ],
)
def test_a_row_without_question_or_answer_is_a_bad_row(raw):
    loaded = load(DATASETS["nq"], [(1, raw)], "nq")
    assert not loaded.rows and len(loaded.bad) == 1


def test_a_mixed_training_file_keeps_the_questions_of_both_sets(tmp_path):
    """Search-R1's qa_search_train_merge.py: NQ's train_0 and HotpotQA's are told apart by `data_source` alone."""
    rows = [{"id": "train_0", "data_source": name, "question": name, "golden_answers": ["a"]} for name in ("nq", "hqa")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert [question for question, _ in answered(tmp_path, "merged.jsonl", text)] == ["nq", "hqa"]


def test_titles_of_kilts_provenance():
    raw = {"input": "q", "output": [{"answer": "a", "provenance": [{"title": "Dune (novel)"}, {"title": None}]}]}
    assert read_row(DATASETS["nq"], raw, "row").titles == ("Dune (novel)",)


def test_parquet(tmp_path):
    """scripts/data_process/nq_search.py of Search-R1 writes such a file, with and without `question`."""
    rows = [{key: value for key, value in ROWS[5][0].items()} | {"ctxs": ["long"]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert answered(tmp_path, "copy.parquet", (tmp_path / "train.parquet").read_bytes()) == [
        ("who wrote dune?", ("Frank Herbert",))
    ]


MESSAGES = pa.list_(pa.struct({"content": pa.string(), "role": pa.string()}))
TARGETS = pa.struct({"target": pa.list_(pa.string())})
PARQUET = {
    "FlashRAG": (
        {"id": pa.string(), "question": pa.string(), "golden_answers": pa.list_(pa.string())},
        {"id": "train_0", "question": "who wrote dune", "golden_answers": ["Frank Herbert"]},
        ("train_0", *DUNE, "nq"),
    ),
    # Search-R1, scripts/data_process/nq_search.py over FlashRAG's copy
    "search_r1": (
        {"id": pa.string(), "question": pa.string(), "golden_answers": pa.list_(pa.string()),
         "data_source": pa.string(), "prompt": MESSAGES, "ability": pa.string(),
         "reward_model": pa.struct({"ground_truth": TARGETS, "style": pa.string()}),
         "extra_info": pa.struct({"index": pa.int64(), "split": pa.string()})},
        {"id": "train_0", "question": "who wrote dune?", "golden_answers": ["Frank Herbert"], "data_source": "nq",
         "prompt": [{"role": "user", "content": SEARCH_R1_PROMPT}], "ability": "fact-reasoning",
         "reward_model": {"style": "rule", "ground_truth": {"target": ["Frank Herbert"]}},
         "extra_info": {"split": "train", "index": 0}},
        ("nq-train_0", "who wrote dune?", ("Frank Herbert",), "nq"),
    ),
    # verl, examples/data_preprocess/preprocess_search_r1_dataset.py: the question stands in extra_info alone
    "verl": (
        {"data_source": pa.string(), "prompt": MESSAGES, "ability": pa.string(),
         "reward_model": pa.struct({"ground_truth": TARGETS, "style": pa.string()}),
         "extra_info": pa.struct({"index": pa.int64(), "need_tools_kwargs": pa.bool_(), "question": pa.string(),
                                  "split": pa.string(), "tools_kwargs": pa.struct({"search": pa.struct({
                                      "create_kwargs": pa.struct({"data_source": pa.string(), "ground_truth": TARGETS,
                                                                  "question": pa.string()})})})}),
         "metadata": pa.string()},
        {"data_source": "searchR1_hotpotqa", "ability": "fact-reasoning", "metadata": None,
         "prompt": [{"role": "system", "content": "You help."}, {"role": "user", "content": "Think.\nwho wrote dune?"}],
         "reward_model": {"style": "rule", "ground_truth": {"target": ["Frank Herbert"]}},
         "extra_info": {"index": 5, "need_tools_kwargs": True, "question": "who wrote dune?", "split": "train",
                        "tools_kwargs": {"search": {"create_kwargs": {"question": "who wrote dune?"}}}}},
        ("searchR1_hotpotqa-train-5", "who wrote dune?", ("Frank Herbert",), "searchR1_hotpotqa"),
    ),
    # DeepResearcher, data/{dev,test}.parquet: 875 and 3,197 rows, of which none is left out
    "deep_researcher": (
        {"data_source": pa.string(), "prompt": MESSAGES, "ability": pa.string(),
         "reward_model": pa.struct({"ground_truth": pa.string(), "style": pa.string()}),
         "extra_info": pa.struct({"index": pa.string(), "split": pa.string()})},
        {"data_source": "tq", "prompt": [{"content": "who wrote dune?", "role": "user"}],
         "ability": "search & question answering",
         "reward_model": {"ground_truth": "Frank Herbert<|answer_split|>F. Herbert", "style": "unknown"},
         "extra_info": {"index": "tq_qg_3477", "split": "dev"}},
        ("tq-dev-tq_qg_3477", "who wrote dune?", ("Frank Herbert", "F. Herbert"), "tq"),
    ),
    # ReSearch, data/prepare_musique.py: a bare list as ground truth
    "research": (
        {"data_source": pa.string(), "question": pa.string(), "ability": pa.string(),
         "reward_model": pa.struct({"ground_truth": pa.list_(pa.string()), "style": pa.string()}),
         "extra_info": pa.struct({"id": pa.string()})},
        {"data_source": "musique_Qwen", "question": "who wrote dune", "ability": "re_search",
         "reward_model": {"ground_truth": ["Frank Herbert"], "style": "rule"}, "extra_info": {"id": "2hop__1"}},
        ("musique_Qwen-2hop__1", *DUNE, "musique_Qwen"),
    ),
}  # fmt: skip
"""Columns with their types as the files have them, a row, and what is read."""


@pytest.mark.parametrize("system", PARQUET)
def test_a_parquet_file_as_it_is_published(tmp_path, caplog, system):
    caplog.set_level("INFO")
    columns, raw, expected = PARQUET[system]
    again = json.dumps(raw).replace("train_0", "train_1").replace('"index": 5', '"index": 6')
    second = json.loads(again.replace("_3477", "_3478").replace("2hop__1", "2hop__2"))
    pq.write_table(pa.Table.from_pylist([raw, second], schema=pa.schema(columns)), tmp_path / "train.parquet")
    out = tmp_path / "out.jsonl"
    assert main(["--dataset", "nq", "--input", str(tmp_path / "train.parquet"), "--out", str(out)]) == 0
    first, other = read_rows(out)
    assert (first.id, first.question, first.answers, first.source) == expected
    assert other.id != first.id and not bad_lines(tmp_path)
    assert f"read as parquet with the columns {', '.join(columns)}" in caplog.text


LINE = '{"question": "who wrote dune", "answers": ["Frank Herbert"]}'


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.jsonl.gz", gzip.compress(LINE.encode(), mtime=0)),  # FiD's and Atlas's releases
        ("a.json.bz2", bz2.compress(f"[{LINE}]".encode())),
        ("a.tsv.gz", gzip.compress(b"question\tanswer\nwho wrote dune\tFrank Herbert\n", mtime=0)),
        (
            "a.jsonl",
            gzip.compress(LINE.encode(), mtime=0),
        ),  # a browser keeps the name and not the packing, and the other way
        ("a.jsonl.gz", LINE),
        ("a.json", LINE + "\n" + LINE.replace("dune", "emma")),  # JSON lines under the wrong name
        ("a.json", json.dumps({"version": 1, "data": [json.loads(LINE)]}, indent=1)),
        ("a.jsonl", f"[\n{LINE}\n]"),
        ("a.JSONL", f"\ufeff{LINE}\r\n"),
        ("a.jsonl", LINE.encode("utf-16")),
        ("a.tsv", "question\tanswer\r\nwho wrote dune\tFrank Herbert\r\n".encode("utf-16")),  # Excel's "Unicode text"
        ("a.csv", '\ufeffquestion,answer\r\n"who wrote dune",Frank Herbert\r\n'),
        ("a.qa.csv", "who wrote dune\t['Frank Herbert']\n"),  # DPR's nq-test.qa.csv
        ("a.tsv", 'who wrote dune\t["Frank Herbert"]\n'),
        ("a.csv", "who wrote dune\t\"['Frank Herbert']\"\n"),
        ("a.tsv", "Query\tAnswers\nwho wrote dune\t['Frank Herbert']\n"),
        # spreadsheets of half of Europe: zimmerman-team/IATI.cloud #1622, SheetJS/sheetjs #2239
        ("a.csv", "id;question;answer\n1,5;who wrote dune;Frank Herbert\n"),
        ("a.csv", '\ufeff"question";"answer"\r\n"who wrote dune";"Frank Herbert"\r\n'),
    ],
)
def test_what_a_file_is_is_told_by_what_is_in_it(tmp_path, caplog, file, content):
    caplog.set_level("INFO")
    assert answered(tmp_path, file, content)[0] == DUNE
    assert caplog.text.count("read as ") == 1 and not bad_lines(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "questions", "bad"),
    [
        # pytorch/text #349: a lone mark swallowed the lines up to the next one
        ("q.tsv", 'question\tanswer\n"Weird Al was born?\tDowney\nwho wrote "Dune"?\tHerbert\nwhere?\tHere\n',
         ['"Weird Al was born?', 'who wrote "Dune"?', "where?"], []),
        ("q.csv", 'question,answer\n"Weird Al was born?,Downey\nwho wrote "Dune"?,Herbert\n',
         ['"Weird Al was born?', 'who wrote "Dune"?'], []),
        # quoting that is meant: a tab or a comma inside, doubled marks, a line end in CSV
        ("q.tsv", 'question\tanswer\n"who\twrote ""Dune""?"\tHerbert\n', ['who wrote "Dune"?'], []),
        ("q.csv", 'question,answer\n"who, then, wrote\n""Dune""?",Herbert\nwhere?,Here\n',
         ['who, then, wrote "Dune"?', "where?"], []),
        # a whole question in marks, in a table without quoting: they are text
        ("q.tsv", 'question\tanswer\n"Let it be"\tBeatles\nwho wrote "Dune"?\tHerbert\n',
         ['"Let it be"', 'who wrote "Dune"?'], []),
        ("q.tsv", "question\tanswer\na\tb\tc\nonly\nwhere?\tHere\n", ["where?"], [2, 3]),
        # NumPy's way to print a list: Python would join the two
        ("q.tsv", "question\tanswers\nwho?\t['Ann' 'Bob']\nwhere?\t['Here']\n", ["where?"], [2]),
        ("q.csv", "who?\t['Ann']\nwhere?\tHere\nwhen?\n", ["who?"], [2, 3]),
        ("q.csv", 'question;answer\n"who; then?";Ann\nwhen, where?;Here\n', ["who; then?", "when, where?"], []),
        ("q.csv", "question,answer,a;b\nwho; then?,Ann,x\n", ["who; then?"], []),
        ("q.tsv", b"question\tanswer\nwho\xe9?\tAnn\nwhere?\tHere\n", ["where?"], [2]),  # Latin-1
    ],
)  # fmt: skip
def test_a_line_is_a_row(tmp_path, file, content, questions, bad):
    assert [question for question, _ in answered(tmp_path, file, content)] == questions
    assert bad_lines(tmp_path) == bad


def test_a_file_whose_name_is_no_text_gives_its_rows_an_id(tmp_path):
    answered(tmp_path, os.fsdecode(b"\xfcbung.jsonl"), LINE)
    assert [row.id for row in read_rows(tmp_path / "out.jsonl")] == ["nq-\ufffdbung-1"]


def test_what_is_left_out_is_said(tmp_path, caplog):
    answered(tmp_path, "q.tsv", "question\tanswer\nwho?\tAnn\nonly\n")
    assert "1 of 2 rows cannot be read and are left out, see" in caplog.text


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1e08\nsize 886\n"


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet"])
def test_what_a_clone_without_git_lfs_has_in_place_of_a_file(tmp_path, capsys, suffix):
    """micasense/imageprocessing #58, biomarkersParkinson/paradigma #250: read as the file, it is no JSON."""
    (tmp_path / f"q{suffix}").write_text(POINTER)
    flags = ["--dataset", "nq", "--input", tmp_path / f"q{suffix}", "--out", tmp_path / "o.jsonl"]
    assert status_of(main, *flags) == 2
    said = capsys.readouterr().err
    assert "git lfs pull" in said and said.count("\n") == 1


def test_a_table_without_names_is_refused(tmp_path, capsys):
    (tmp_path / "q.tsv").write_text("who wrote dune\tFrank Herbert\n")
    flags = ["--dataset", "nq", "--input", tmp_path / "q.tsv", "--out", tmp_path / "o.jsonl"]
    assert status_of(main, *flags) == 2 and "add a line of column names" in capsys.readouterr().err


cells = st.text(st.sampled_from("ab\"\t,\r é\ud83d[']{}:\\"), max_size=8)
pairs = st.lists(st.tuples(cells, cells), max_size=4)
tables = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    pairs.map(lambda rows: "\n".join(["question\tanswer", *map("\t".join, rows)])),
    pairs.map(lambda rows: "\n".join(["question,answer", *map(",".join, rows)])),
    st.lists(st.builds(lambda q, a: json.dumps({"question": q, "answer": a}), cells, cells), max_size=4).map("\n".join),
)
contents = encoded(tables | json_lines(*(raw for raw, _ in ROWS)))


def check_every_line_is_accounted_for(path: Path) -> None:
    """Rows and listed rows are the lines that hold something, or one clear line says why not."""
    try:
        raw = from_file(path)
        items = list(raw.rows)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return
    loaded = load(DATASETS["nq"], items, "nq")
    assert len(loaded.rows) + len(loaded.bad) == len(items)
    for row in loaded.rows:
        assert json.loads(row.to_json().encode()) and row.question and all(row.answers)
    if path.suffix in (".jsonl", ".tsv") and "list" not in raw.shape:
        lines = lines_in(path.read_bytes())
        assert lines is None or len(items) == lines - ("with a line of names" in raw.shape and bool(lines))


@given(
    content=contents, suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".tsv.gz"])
)
def test_any_file_ends_in_rows_and_listed_rows_or_in_one_line(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    check_every_line_is_accounted_for(path)
