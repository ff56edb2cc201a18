"""Dense retrieval with the hashing encoder; what the manifest refuses; the table of encoders."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from retriever.backends import build_index, load_index
from retriever.dense import DenseIndex
from retriever.encoder import ENCODERS, Encoder, HashingEncoder, SentenceTransformerEncoder, load_encoder
from retriever.manifest import IndexMismatch


class Prefixed(HashingEncoder):
    """A stand-in for another model: the same size, other prefixes."""

    def __init__(self) -> None:
        super().__init__(256)
        self.facts = {**self.facts, "encoder": "other", "query_prefix": "query: "}


@pytest.fixture(scope="module")
def dense(passages) -> DenseIndex:
    return DenseIndex.build(passages, HashingEncoder(256), batch_size=4)


def test_hashing_vectors():
    encoder = HashingEncoder(64)
    vectors = encoder.encode_passages(["Paris is old", "paris IS old", "", "a a a b"])
    assert vectors.shape == (4, 64) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1])
    assert np.array_equal(vectors[0], vectors[1]) and isinstance(encoder, Encoder)
    with pytest.raises(ValueError, match="dim"):
        HashingEncoder(1)


def test_hashing_is_the_same_in_every_process():
    code = (
        "from retriever.encoder import HashingEncoder\n"
        "print(HashingEncoder(32).encode_queries(['one two three']).nonzero()[1])"
    )
    here = str(HashingEncoder(32).encode_queries(["one two three"]).nonzero()[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == here


def test_search(dense, passages):
    first, second = dense.search(["capital of France", "english film director"], 2)
    assert (first[0].passage.id, second[0].passage.id) == ("p3", "p2")
    assert len(first) == 2 and first[0].score > first[1].score
    assert dense.search([], 2) == []


def test_more_than_there_are_gives_all_of_them(dense, passages):
    assert len(dense.search(["paris"], 99)[0]) == len(passages) == len(dense)


def test_a_query_without_words_finds_nothing(dense):
    assert dense.search(["?", "paris"], 2)[0] == ()


def test_equal_scores_come_in_corpus_order(dense):
    assert [hit.passage.id for hit in dense.search(["the very same words"], 2)[0]] == ["p4", "p5"]


@pytest.mark.parametrize("factory", ["HNSW8", "IVF2,Flat", "SQ8"])
def test_other_factories_work(passages, factory):
    index = DenseIndex.build(passages, HashingEncoder(256), factory=factory)
    assert index.search(["capital of France"], 1)[0][0].passage.id == "p3"


def test_wrong_builds_are_refused(passages):
    with pytest.raises(ValueError, match="factory string 'Nonsense'"):
        DenseIndex.build(passages, HashingEncoder(), factory="Nonsense")
    with pytest.raises(ValueError, match="no passages"):
        DenseIndex.build([], HashingEncoder())


def test_save_and_load(dense, tmp_path):
    dense.save(tmp_path / "index")
    for loaded in (DenseIndex.load(tmp_path / "index", HashingEncoder(256)), load_index(tmp_path / "index")):
        assert loaded.search(["akkadian spirit"], 3) == dense.search(["akkadian spirit"], 3)
        assert loaded.name == "dense:hashing"


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (HashingEncoder(128), "dim: index has 256, here is 128"),
        (Prefixed(), "query_prefix: index has '', here is 'query: '"),
    ],
)
def test_another_encoder_is_refused_naming_both_sides(dense, tmp_path, encoder, said):
    dense.save(tmp_path)
    with pytest.raises(IndexMismatch, match=said):
        DenseIndex.load(tmp_path, encoder)


def test_a_backend_is_not_taken_for_the_other(dense, bm25, tmp_path):
    dense.save(tmp_path / "dense")
    bm25.save(tmp_path / "bm25")
    with pytest.raises(IndexMismatch, match="'dense'"):
        load_index(tmp_path / "dense", backend="bm25")
    with pytest.raises(IndexMismatch, match="backend: index has 'bm25'"):
        DenseIndex.load(tmp_path / "bm25", HashingEncoder())


def test_a_truncated_vector_file_is_refused(dense, tmp_path):
    dense.save(tmp_path)
    file = tmp_path / "vectors.faiss"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IndexMismatch, match="vectors.faiss"):
        load_index(tmp_path)


def test_another_library_version_is_only_a_warning(dense, tmp_path, caplog):
    dense.save(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(file.read_text().replace('"numpy": "', '"numpy": "0.'))
    with caplog.at_level(logging.WARNING):
        load_index(tmp_path)
    assert "numpy" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bm42",), "unknown backend"),
        (("dense",), "needs an encoder"),
        (("dense", "nope"), "known: bge-large-en-v1.5"),
        (("bm25", "hashing"), "takes no encoder"),
        (("dense", "hashing", "folder"), "no weights"),
    ],
)
def test_wrong_choices_are_named(passages, arguments, said):
    with pytest.raises(ValueError, match=said):
        build_index(passages, *arguments)


def test_the_table_of_encoders(monkeypatch):
    class FakeModel:
        def __init__(self, model, device=None):
            self.model = model

        def encode(self, texts, **_):
            self.seen = texts
            return np.ones((len(texts), 3))

    sys_modules_entry = type(sys)("sentence_transformers")
    sys_modules_entry.SentenceTransformer = FakeModel
    monkeypatch.setitem(sys.modules, "sentence_transformers", sys_modules_entry)
    expected = {
        "bge-large-en-v1.5": ("BAAI/", "Represent this sentence for searching relevant passages: ", "", 300),
        "e5-base-v2": ("intfloat/", "query: ", "passage: ", 256),
        "all-MiniLM-L6-v2": ("sentence-transformers/", "", "", 256),
    }
    assert set(ENCODERS) == set(expected) | {"hashing"}
    for name, (owner, query_prefix, passage_prefix, length) in expected.items():
        encoder = load_encoder(name)
        assert isinstance(encoder, SentenceTransformerEncoder) and encoder._model.model == owner + name
        assert encoder._model.max_seq_length == length and encoder.dim == 3
        assert encoder.encode_queries(["x"]).dtype == np.float32 and encoder._model.seen == [query_prefix + "x"]
        encoder.encode_passages(["x"])
        assert encoder._model.seen == [passage_prefix + "x"]
        assert load_encoder(name, "/some/folder").facts == encoder.facts
