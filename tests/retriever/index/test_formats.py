"""Corpus files as they are published: recognised by their first lines, titles kept, nothing read as something else."""

from __future__ import annotations

import bz2
import gzip
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile.any_files import corpora, lines_in

from retriever.index.corpus import CorpusError, doubts, iter_corpus, read_corpus
from retriever.index.formats import FORMATS, BadLine, Cutting, HeaderLine, read_line, recognised
from retriever.passage import Passage

LAMP = Passage("0", "Blue Lamp", 'The "Blue Lamp" is a hotel.')
WIKI18 = json.dumps({"id": "0", "contents": '"Blue Lamp"\nThe "Blue Lamp" is a hotel.'})
QUOTED = '"The ""Blue Lamp"" is a hotel."'

FILES = [
    # Search-R1 #74, wiki-18.jsonl: id and contents
    ("c.jsonl", WIKI18, "wiki18"),
    ("c.jsonl.gz", gzip.compress(WIKI18.encode(), mtime=0), "wiki18"),
    # DPR, psgs_w100.tsv: names, quoting, the title last (CsvCtxSrc in dpr/data/retriever_data.py)
    ("c.tsv", f"id\ttext\ttitle\n0\t{QUOTED}\tBlue Lamp\n", "dpr"),
    ("c.tsv.gz", gzip.compress(f"id\ttext\ttitle\n0\t{QUOTED}\t\"Blue Lamp\"\n".encode(), mtime=0), "dpr"),
    # the same with the title first, as ColBERT's and Contriever's copies have it, and without names
    ("c.tsv", f"pid\ttitle\tpassage\n0\tBlue Lamp\t{QUOTED}\n", "dpr"),
    ("c.tsv", f"0\tBlue Lamp\t{QUOTED}\n", "dpr"),
    ("c.tsv", f"0\t{QUOTED}\tBlue Lamp\n", "dpr"),
    # R1-Searcher, wiki_corpus_index_bulid/samples: abstracts (mark, CRLF, CSV quoting), and KILT with three spaces
    ("c.tsv", '\ufeff0\t"Title: Blue Lamp Text:  The ""Blue Lamp"" is a hotel."\r\n', "tsv"),
    ("c.tsv", '0\tTitle: Blue Lamp Text:  The "Blue Lamp" is a hotel.\n', "tsv"),
    ("c.tsv", '0\tBlue Lamp   The "Blue Lamp" is a hotel.\n', "tsv"),
    ("c.tsv", '0\tBlue Lamp   The "Blue Lamp" is a hotel.\n'.encode("utf-16"), "tsv"),
    # BEIR's corpus.jsonl, Tevatron's, Atlas's text-list-100-sec.jsonl (with `section`)
    ("c.jsonl", json.dumps({"_id": "0", "title": LAMP.title, "text": LAMP.text}), "jsonl"),
    ("c.jsonl.bz2", bz2.compress(json.dumps({"docid": 0, "title": LAMP.title, "text": LAMP.text}).encode()), "jsonl"),
    ("c.jsonl", json.dumps({"id": "0", "title": LAMP.title, "section": "", "text": LAMP.text}), "jsonl"),
    # HotpotQA's abstracts
    ("c.jsonl", json.dumps({"id": "0", "title": LAMP.title, "text": ["The ", '"Blue Lamp" is a hotel.']}),
     "hotpotqa_abstracts"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "name"), FILES)
def test_a_published_file_is_recognised_and_keeps_its_titles(tmp_path, caplog, file, content, name):
    caplog.set_level(logging.INFO)
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = recognised(path)
    assert found is not None and found.format == name
    assert read_corpus(path) == [LAMP] and not doubts([LAMP])
    assert name in caplog.text or found.cutting == Cutting()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WIKI18 + '\n{"id": "1", "contents": "no line end"}\n', r"line 2: .*--format wiki18"),
        ("id\ttext\ttitle\n0\tx\ty\n1\tonly\n", "line 3: expected the columns id, text, title, found 2"),
        ('{"id": "1", "words": "x"}\n', "text is missing"),
        ("just text\n", "not JSON"),
    ],
)
def test_a_line_that_gives_no_passage_is_named(tmp_path, content, said):
    (tmp_path / "c.txt").write_text(content)
    with pytest.raises(CorpusError, match=said):
        read_corpus(tmp_path / "c.txt")


def test_what_is_doubtful_is_said():
    assert "none of the first 2 passages has a title" in doubts([Passage("1", "", "x"), Passage("2", " ", "y")])[0]
    assert "looks like a line of column names" in doubts([Passage("docid", "Title", "x"), LAMP])[0]
    assert doubts([Passage("1", "", "x"), LAMP]) == doubts([]) == []


lines = st.text(st.sampled_from('ab"\t, :{}[]\ud83dTitle'), max_size=14).map(
    lambda text: text.encode("utf-8", "replace")
)


@given(name=st.sampled_from(sorted(FORMATS)), line=lines | st.binary(max_size=20))
def test_any_line_is_passages_or_a_bad_line(name, line):
    try:
        passages = read_line(line, FORMATS[name], Cutting())
    except (BadLine, HeaderLine) as error:
        assert "\n" not in str(error)
        return
    assert passages and all(passage.text.strip() and passage.id for passage in passages)


@given(content=corpora() | st.lists(lines, max_size=5).map(b"\n".join))
def test_any_file_is_passages_of_all_its_lines_or_one_line_about_it(tmp_path_factory, content):
    """The search server's `--corpus`, and that of `retriever.build`."""
    path = tmp_path_factory.getbasetemp() / "any_corpus"
    path.write_bytes(content)
    try:
        passages = list(iter_corpus(path))
    except CorpusError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return
    assert all(passage.id and passage.text.strip() and f"{passage}".encode() for passage in passages)
    found, in_file = recognised(path), lines_in(content)
    if found is not None and found.format == "kilt":  # pages are cut; each has a first passage
        passages = [passage for passage in passages if passage.id.endswith("-0")]
    named = found is not None and "named on the first line" in found.shape
    assert in_file is None or in_file - len(passages) in ((0,) if not named else range(1, in_file + 1))
