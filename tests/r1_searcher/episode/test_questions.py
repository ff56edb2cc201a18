"""Dataset rows and their files."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from r1_searcher.episode.question import QARow, check_ids, iter_rows, read_rows

words = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.builds(QARow, words, words, st.lists(words, min_size=1, max_size=3).map(tuple), st.text(
    st.characters(blacklist_categories=["Cs"]), max_size=4), st.none() | st.integers(0, 9)))  # fmt: skip
def test_round_trip(row):
    line = row.to_json()
    assert QARow.from_json(line) == row and "\n" not in line


def test_one_answer_as_a_string():
    assert QARow.from_json('{"id": 3, "question": "q", "answer": "a"}') == QARow("3", "q", ("a",))


def test_answers_win_over_answer_and_the_question_is_the_default_id():
    row = QARow.from_mapping({"question": "q", "answers": ["b"], "answer": "a", "hops": "2"})
    assert (row.answers, row.id, row.hops) == (("b",), "q", 2)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "a row must be a JSON object"),
        ({}, "'question'"),
        ({"question": " ", "answer": "a"}, "'question'"),
        ({"question": 1, "answer": "a"}, "'question'"),
        ({"question": "q"}, "'answers'"),
        ({"question": "q", "answers": []}, "'answers'"),
        ({"question": "q", "answers": [""]}, "every answer"),
        ({"question": "q", "answers": ["a", 3]}, "every answer"),
        ({"question": "q", "answers": {"a": 1}}, "'answers'"),
        ({"question": "q", "answer": 3}, "'answers'"),
        ({"question": "q", "answer": "a", "hops": "two"}, "two"),
    ],
)
def test_wrong_rows_say_what_is_wrong(row, said):
    with pytest.raises(ValueError, match=said):
        QARow.from_mapping(row)


def test_hops_of_a_wrong_type_are_a_wrong_row():
    with pytest.raises(ValueError, match="hops"):
        QARow.from_mapping({"question": "q", "answer": "a", "hops": [2]})


def test_an_id_of_null_is_no_id():
    assert QARow.from_mapping({"id": None, "question": "q", "answer": "a"}).id == "q"


def test_files(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"question": "q1", "answer": "a"}\n   \n{"question": "q2", "answer": "b\u2028"}\n', "utf-8")
    assert [row.question for row in read_rows(path)] == ["q1", "q2"]


def test_the_line_of_a_mistake_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q1", "answer": "a"}\n\n{"question": \n', "utf-8")
    with pytest.raises(InputError, match=r"rows.jsonl, line 3: "):
        list(iter_rows(path))


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(InputError, match="not found"):
        read_rows(tmp_path / "none.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_rows(empty)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "q\xff", "answer": "a"}\n')
    with pytest.raises(InputError, match="rows.jsonl"):
        list(iter_rows(path))


def test_json_lines_keep_every_script_readable():
    assert json.loads(QARow("1", "東京?", ("é",)).to_json())["question"] == "東京?"
    assert "東京" in QARow("1", "東京?", ("é",)).to_json()


def test_ids_are_unique():
    one, two, again = (QARow(name, "q", ("a",)) for name in ("1", "2", "1"))
    check_ids([one, two], "f.jsonl")
    with pytest.raises(InputError, match="^f.jsonl: two questions have the id '1'"):
        check_ids([one, two, again], "f.jsonl")
