"""Milvus through its embedded edition: the same answers as an exact index, resumed builds, refusals."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading

import pytest

from foundation.errors import InputError
from retriever import Passage
from retriever.errors import RetrieverUnavailable
from retriever.index.backends import build_index, load_index
from retriever.index.dense import DenseIndex
from retriever.index.encoder import HashingEncoder
from retriever.index.manifest import IndexMismatch
from retriever.index.milvus import build_milvus, connect

lite = pytest.mark.skipif(importlib.util.find_spec("milvus_lite") is None, reason="needs pip install milvus-lite")
QUERIES = ["capital of France", "akkadian spirit", "the very same words", "?"]


@pytest.fixture(scope="module")
def built(tmp_path_factory, passages):
    folder = tmp_path_factory.mktemp("milvus")
    build_milvus(folder / "index", passages, HashingEncoder(64), str(folder / "milvus.db"), "wiki")
    return folder


@lite
def test_answers_as_an_exact_index_does(built, passages):
    opened, exact = load_index(built / "index"), DenseIndex.build(passages, HashingEncoder(64))
    for found, wanted in zip(opened.search(QUERIES, 3), exact.search(QUERIES, 3), strict=True):
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
        assert [hit.passage for hit in found if hit.score > 0] == [hit.passage for hit in wanted if hit.score > 0]
    assert (len(opened), opened.name) == (len(passages), "milvus:hashing")
    assert opened.search([], 3) == [] and len(opened.search(["paris"], 99)[0]) == len(passages)


@lite
def test_searches_from_several_threads(built):
    opened = load_index(built / "index")
    expected, wrong = opened.search(QUERIES, 2), []

    def ask() -> None:
        for _ in range(5):
            if opened.search(QUERIES, 2) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@lite
def test_a_killed_build_goes_on(tmp_path, monkeypatch):
    passages = [Passage(str(i), "t", f"word{i} word{i % 9}") for i in range(40)]
    monkeypatch.setattr("retriever.index.milvus.BATCH", 8)
    encoder = HashingEncoder(32)
    encode, calls = encoder.encode_passages, []

    def dying(texts):
        calls.append(texts)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(texts)

    monkeypatch.setattr(encoder, "encode_passages", dying)
    arguments = (tmp_path / "index", passages, encoder, str(tmp_path / "milvus.db"), "wiki")
    with pytest.raises(KeyboardInterrupt):
        build_milvus(*arguments)
    assert not (tmp_path / "index" / "manifest.json").exists()
    build_milvus(*arguments)
    # The three batches that were there: the last of them again, and the two that were missing.
    assert [len(texts) for texts in calls] == [8, 8, 8, 8] + [8, 8, 8]
    opened = load_index(tmp_path / "index")
    assert len(opened) == 40 and opened.search(["word39"], 1)[0][0].passage == passages[39]


@lite
def test_what_does_not_fit_is_refused(built, passages, tmp_path):
    with pytest.raises(IndexMismatch, match="dim: there 64, here 32"):
        build_milvus(tmp_path / "other", passages, HashingEncoder(32), str(built / "milvus.db"), "wiki")
    with pytest.raises(IndexMismatch, match="corpus_sha256"):
        build_milvus(tmp_path / "other", passages[::-1], HashingEncoder(64), str(built / "milvus.db"), "wiki")
    with pytest.raises(ValueError, match="70000 bytes"):
        long = [Passage("0", "", "x" * 70_000)]
        build_milvus(tmp_path / "long", long, HashingEncoder(64), str(tmp_path / "milvus.db"), "wiki")
    assert not (tmp_path / "other" / "manifest.json").exists()


@lite
@pytest.mark.parametrize("name", ["manifest.json", "building.json"])
def test_the_folder_of_another_backend_is_left_as_it_is(passages, tmp_path, name):
    index, there = tmp_path / "index", tmp_path / "index" / name
    build_index(passages, "bm25").save(index)
    (index / "manifest.json").rename(there)
    before = there.read_bytes()
    with pytest.raises(InputError, match="holds another index .*backend: there 'bm25', here 'milvus'.*choose another"):
        build_milvus(index, passages[:2], HashingEncoder(64), str(tmp_path / "milvus.db"), "wiki")
    assert there.read_bytes() == before and not (tmp_path / "milvus.db").exists()


@lite
def test_passages_that_milvus_has_lost_are_built_again(passages, tmp_path):
    arguments = (tmp_path / "index", passages, HashingEncoder(64))
    build_milvus(*arguments, str(tmp_path / "lost.db"), "wiki")
    build_milvus(*arguments, str(tmp_path / "new.db"), "wiki")
    assert json.loads((tmp_path / "index" / "manifest.json").read_text())["uri"] == str(tmp_path / "new.db")


@lite
def test_a_cluster_that_is_down_is_an_outage(monkeypatch):
    monkeypatch.setattr("retriever.index.milvus.TIMEOUT_S", 0.5)
    with pytest.raises(RetrieverUnavailable, match="Milvus failed"):
        connect("http://127.0.0.1:9")


def test_a_missing_library_is_named_with_the_pip_line():
    code = "import sys; sys.modules['pymilvus'] = None\nfrom retriever.index.milvus import connect\nconnect('x.db')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "pip install pymilvus" in done.stderr


def test_a_server_that_only_the_manifest_names_is_not_sent_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "milvus-secret")
    asked = []
    monkeypatch.setattr("retriever.index.milvus.connect", asked.append)
    facts = {"format": 2, "backend": "milvus", "count": 1, "corpus_sha256": "0", "collection": "wiki"}
    facts |= {"uri": "https://evil.example:19530", **HashingEncoder(8).facts}
    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(IndexMismatch, match=r"says that it is in Milvus at https://evil.example:19530.*--milvus-uri"):
        load_index(tmp_path)
    assert asked == []


def test_the_token_is_not_sent_in_clear_text_to_another_machine(monkeypatch):
    pytest.importorskip("pymilvus")
    monkeypatch.setenv("MILVUS_TOKEN", "milvus-secret")
    with pytest.raises(ValueError, match="MILVUS_TOKEN would go in clear text"):
        connect("http://milvus.example:19530")
