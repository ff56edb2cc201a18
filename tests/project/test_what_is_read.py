"""The tables of docs/data.md: each row of theirs is what the readers do, and each reader has its row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.processes.commands import status_of

from data_prep.corpus.__main__ import BAD_LINES_NAME
from data_prep.corpus.__main__ import main as corpus_command
from data_prep.questions.__main__ import main as questions_command
from data_prep.questions.qa_datasets import DATASETS, read_row
from data_prep.questions.raw_rows import FORMATS as QUESTION_FORMATS
from eval.results.predictions import read_predictions
from foundation.errors import InputError
from foundation.text_lines import COMPRESSED
from retriever import Passage
from retriever.index.corpus import CorpusError, read_corpus
from retriever.index.formats import FORMATS
from retriever.index.store import PassageStore

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def table(head: str) -> dict[str, list[str]]:
    """First cell -> the other cells, of the table whose first cell begins so."""
    (text,) = re.findall(rf"^\| {re.escape(head)}.*\n\|-.*\n((?:\|.*\n)+)", PAGE, flags=re.M)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
    return {row[0].removeprefix("| ").strip(): row[1:] for row in rows}


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


QUESTIONS, KEYS = table("questions (`data_prep.questions"), table("a row's")
CORPORA, PREDICTIONS = table("corpora (`data_prep.corpus`"), table("predictions (`eval.score`")


def test_the_packings_and_endings_of_the_page_are_those_of_the_code():
    (packed,) = re.findall(r"plain or compressed \(([^)]+)\)", PAGE)
    assert words(packed) == list(COMPRESSED)
    told_by = " ".join(cells[0] for cells in QUESTIONS.values())
    assert {word for word in words(told_by) if word.startswith(".")} == set(QUESTION_FORMATS)


def parquet() -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"question": ["q"], "golden_answers": [["a"]], "ctxs": ["long"]}), out)
    return out.getvalue().to_pybytes()


QUESTION_FILES = {
    "JSON lines": ("q.jsonl", b'{"question": "q", "answers": ["a"]}\n[1]\n"\xff"\n', "JSON lines", [2, 3]),
    "JSON list, or an object with one under `Data` or `data`": (
        "q.json", b'{"Data": [{"question": "q", "answers": ["a"]}, 7]}', "a JSON list", [2],
    ),
    "CSV, TSV with a line of names": ("q.tsv", b"query\tanswer\nq\ta\nonly\n", "with a line of names", [3]),
    "DPR's `*.qa.csv`: question, tab, list of answers": (
        "q.qa.csv", b"q\t['a']\nq2\t['a' 'b']\nq3\tc\n", "as DPR's question files", [2, 3],
    ),
    "parquet (verl, Search-R1, FlashRAG, DeepResearcher)": (
        "q.parquet", parquet(), "parquet with the columns question, golden_answers", [],
    ),
    "anything else": ("q.txt", b"q a\n", "unknown ending", None),
}  # fmt: skip
"""Of each row of the page: a file of one question, what it is said to be, and the numbers of what is listed."""


@pytest.mark.parametrize("row", QUESTIONS)
def test_question_files(row, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    assert list(QUESTIONS) == list(QUESTION_FILES)
    name, content, shape, left_out = QUESTION_FILES[row]
    (tmp_path / name).write_bytes(content)
    out, bad = tmp_path / "out.jsonl", tmp_path / "out.jsonl.bad.jsonl"
    status = status_of(questions_command, "--dataset", "nq", "--input", tmp_path / name, "--out", out)
    if left_out is None:
        assert status == 2 and shape in capsys.readouterr().err and not out.exists()
        return
    assert status == 0 and len(out.read_text().splitlines()) == 1 and shape in caplog.text
    listed = [json.loads(line)["number"] for line in bad.read_text().splitlines()] if bad.exists() else []
    assert listed == left_out


def nested(place: str, value: object) -> Any:
    """A row with the value at `a.b[].c`."""
    key, _, rest = place.partition(".")
    inner = nested(rest, value) if rest else value
    return {key.removesuffix("[]"): [inner] if key.endswith("[]") else inner}


def together(*rows: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for row in rows:
        for key, value in row.items():
            old = merged.get(key)
            merged[key] = together(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read(*places_and_values: tuple[str, object]):
    """The row of PopQA, whose own golds lie under a key that no other system has."""
    given = [("question", "q"), ("answer", "a"), *places_and_values]
    return read_row(DATASETS["popqa"], together(*(nested(place, value) for place, value in given)), "row")


def test_of_several_keys_for_the_question_the_first_of_the_page_counts():
    found = words(KEYS["question"][0])
    assert found[-2:] == ["Question:", "prompt"]
    places = [*found[:-2], "prompt"]
    for first, place in enumerate(places):
        row = together({"answer": "a"}, *(nested(each, f"in {each}") for each in places[first:]))
        assert read_row(DATASETS["nq"], row, "row").question == f"in {place}"
    messages = [{"role": "user", "content": "Old. Question: x"}, {"role": "user", "content": "Think.\nQuestion: q?\n"}]
    assert read_row(DATASETS["nq"], {"answer": "a", "prompt": messages}, "row").question == "q?"


def test_of_several_keys_for_the_answers_the_first_of_the_page_counts():
    found = list(dict.fromkeys(words(KEYS["answers"][0])))
    assert found == [
        "golden_answers", "target", "answers", "text", "output[].answer", "reward_model.ground_truth", "answer",
    ]  # fmt: skip
    places = ["golden_answers", "possible_answers", "target", "output[].answer", "reward_model.ground_truth", "answer"]
    for first, place in enumerate(places):
        given = [(each, [f"in {each}"] if each == "possible_answers" else f"in {each}") for each in places[first:]]
        assert read(*given).answers == (f"in {place}",)
    assert read(("target", "t"), ("answers", ["a", "t"])).answers == ("t", "a")
    assert read(("answers", {"text": ["in SQuAD"]})).answers == ("in SQuAD",)
    assert read(("reward_model.ground_truth.target", ["inside"])).answers == ("inside",)


def test_of_several_keys_for_the_id_the_first_of_the_page_counts():
    places = words(KEYS["id"][0])
    for first, place in enumerate(places):
        given = [(each, f"in {each}") for each in places[first:]]
        assert read(*given).id == f"in {place}"
    assert read(("extra_info.index", 5), ("extra_info.split", "train")).id == "train-5"


def test_titles_lie_where_the_page_says():
    (place,) = words(KEYS["titles"][0])
    assert read((place, "T")).titles == ("T",)


CORPUS_FILES = {
    "wiki18": ({"id": "1", "contents": '"T"\nx'}, {"id": "2", "contents": "no line end"}),
    "jsonl": ({"_id": "1", "title": "T", "body": "x"}, {"_id": "2", "title": "T", "body": " "}),
    "dpr": ("id\ttext\ttitle\n1\tx\tT", "2\tonly"),
    "tsv": ("1\tTitle: T Text: x", "2\tx\ty"),
    "kilt": ({"wikipedia_id": "1", "wikipedia_title": "T", "text": ["x"]}, {"wikipedia_title": "U", "text": ["U"]}),
    "hotpotqa_abstracts": ({"id": "1", "title": "T", "text": ["x"]}, {"id": "2", "title": "T", "text": [" "]}),
}
"""Of each format of the page: what it is told by, with one passage; and a line that is left out."""


@pytest.mark.parametrize("name", FORMATS)
def test_corpora(name, tmp_path, caplog):
    """Recognised by the first lines, read by the building command and by the server, which refuses the bad line."""
    caplog.set_level("INFO")
    assert {words(row)[0] for row in CORPORA} == set(FORMATS)
    good, bad = (line if isinstance(line, str) else json.dumps(line) for line in CORPUS_FILES[name])
    (tmp_path / "good").write_text(good + "\n")
    (tmp_path / "both").write_text(f"{good}\n{bad}\n")
    out = tmp_path / "store"
    assert status_of(corpus_command, "--input", tmp_path / "both", "--out", out, "--processes", 1) == 0
    assert f"read as {name}: " in caplog.text
    (passage,) = PassageStore.open(out)
    assert (passage.title, passage.text) == ("T", "x") and read_corpus(tmp_path / "good") == [passage]
    assert len((out / BAD_LINES_NAME).read_text().splitlines()) == 1
    with pytest.raises(CorpusError, match=rf"line \d: .*--format {name} reads the rest"):
        read_corpus(tmp_path / "both")


def test_every_name_of_a_corpus_s_keys(tmp_path):
    (row,) = (row for row in CORPORA if words(row)[0] == "jsonl")
    identifiers, texts = ["id", "_id", "docid", "pid"], ["text", "passage", "body"]
    assert words(row) == ["jsonl", *identifiers, "title", *texts]
    for key in identifiers:
        for text in texts:
            (tmp_path / "c.jsonl").write_text(json.dumps({key: 7, "title": "T", text: "x"}) + "\n")
            assert read_corpus(tmp_path / "c.jsonl") == [Passage("7", "T", "x")]


PUBLISHED = {"question": "q", "answer": "a", "pred_ans": "a"}
SPANS = [["prompt", 0, 0, "q"], ["action", 0, 0, "<answer> a </answer>"]]
PREDICTION_FILES = {
    "our own lines, of evaluations and training logs": (
        {"row": {"id": "1", "question": "q", "answers": ["a"]}, "spans": SPANS, "stop_reason": "answered",
         "answer": "a", "searches": []},
        None,
    ),
    "the published form": (PUBLISHED | {"completion": "<answer> a </answer>", "judge": "True"}, "the published form"),
    "R1-Searcher's result files": (
        PUBLISHED | {"gen_text_store": "<answer> a </answer>", "gpt4o_output": "True", "stop_reason_final": "finished"},
        "R1-Searcher's result files",
    ),
}  # fmt: skip
"""Of each row of the page: a line with the keys that it names, and what it is said to be."""


@pytest.mark.parametrize("row", PREDICTIONS)
def test_predictions(row, tmp_path, caplog):
    caplog.set_level("INFO")
    assert list(PREDICTIONS) == list(PREDICTION_FILES)
    line, said = PREDICTION_FILES[row]
    keys = {word for word in words(PREDICTIONS[row][0]) if word.isidentifier() and word != "retrieve_error"}
    assert keys - set(line) <= {"answers"}  # or `answer`
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n")
    (record,) = read_predictions(tmp_path / "p.jsonl")
    assert record.answer == "a" and record.judged is (None if said is None else True)
    assert said is None or f"read as {said}, 1 of them" in caplog.text
    with pytest.raises(InputError, match="line 2: "):
        (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n[]\n")
        read_predictions(tmp_path / "p.jsonl")
