"""Corpus files: what is read, and that an error names file and line."""

from __future__ import annotations

import pytest

from retriever import Passage
from retriever.index.corpus import CorpusError, corpus_hash, iter_corpus, read_corpus, write_corpus

ROW = '{"id": "%s", "title": "T", "text": "x"}\n'


def test_read(tmp_path):
    file = tmp_path / "c.jsonl"
    file.write_text("\ufeff" + ROW % "a" + "\n" + '{"id": 7, "title": "", "text": "é", "source": "other"}\n')
    assert read_corpus(file) == [Passage("a", "T", "x"), Passage("7", "", "é")]


def test_what_is_written_is_read_back(tmp_path, passages):
    odd = [*passages, Passage("odd", "line\nbreak \u2028", "  kept as it is ")]
    write_corpus(tmp_path / "c.jsonl", odd)
    assert read_corpus(tmp_path / "c.jsonl") == odd
    assert corpus_hash(odd) == corpus_hash(iter_corpus(tmp_path / "c.jsonl")) != corpus_hash(odd[::-1])


def test_the_hash_sees_where_fields_end():
    assert corpus_hash([Passage("1", "ab", "c")]) != corpus_hash([Passage("1", "a", "bc")])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[1]", "JSON object"),
        (b'{"id": "1", "title": "t"}', "field text is missing"),
        (b"{}", "field id is missing"),
        (b'{"id": "1", "title": "t", "text": " "}', "no text"),
        (b'{"id": "1", "title": "t", "text": "half \\ud800"}', "not valid Unicode"),
        (b'{"id": null, "title": "t", "text": "x"}', "id must be a string"),
        (b'{"id": true, "title": "t", "text": "x"}', "id must be a string"),
        (b'{"id": "1", "title": "t", "text": ["x"]}', "text must be a string"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    file = tmp_path / "c.jsonl"
    file.write_bytes((ROW % "a").encode() + line + b"\n")
    with pytest.raises(CorpusError, match="line 2") as caught:
        read_corpus(file)
    assert said in str(caught.value) and str(file) in str(caught.value)


def test_a_line_without_a_title_is_a_passage_without_one(tmp_path):
    """As `data_prep.corpus` reads it, and as under other names of the keys; `doubts` says where all are missing."""
    (tmp_path / "c.jsonl").write_text('{"id": "1", "text": "x"}\n')
    assert read_corpus(tmp_path / "c.jsonl") == [Passage("1", "", "x")]


def test_reading_is_lazy(tmp_path):
    file = tmp_path / "c.jsonl"
    file.write_text(ROW % "a" + "{")
    assert next(iter_corpus(file)).id == "a"


def test_other_errors(tmp_path):
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "twice").write_text(ROW % "a" + ROW % "b" + ROW % "a")
    for name, said in (
        ("empty", "is empty"),
        ("twice", "'a' occurs twice, as passage 1 and passage 3"),
        ("none", "cannot read"),
    ):
        with pytest.raises(CorpusError, match=said):
            read_corpus(tmp_path / name)
