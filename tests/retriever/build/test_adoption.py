"""A published FAISS index becomes a saved one, or one line says why it cannot be of this corpus and encoder."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.processes.commands import status_of

from retriever import Passage
from retriever.adopt import main
from retriever.index.backends import load_index
from retriever.index.corpus import write_corpus
from retriever.index.encoder import HashingEncoder, load_encoder
from retriever.index.sentence_encoder import EncoderSpec, SentenceTransformerEncoder

faiss = pytest.importorskip("faiss")

DIM = 256
WORDS = ["amber", "birch", "cedar", "dusk", "ember", "fjord", "grove", "heath", "iris", "jade"]
PASSAGES = [
    Passage(str(n), f"{WORDS[n % 10]} {n}", f"{WORDS[n % 10]} {WORDS[n // 10]} number{n} alone{n}") for n in range(100)
]


@pytest.fixture
def published(tmp_path):
    """Writes the files as others publish them: gives the index's path; the corpus is beside it."""

    def write(factory: str = "Flat", *, metric: int = faiss.METRIC_INNER_PRODUCT, rows=slice(None)):
        index = faiss.index_factory(DIM, factory, metric)
        texts = [passage.titled_text for passage in PASSAGES]
        matrix = HashingEncoder(DIM).encode_passages(texts)[rows]
        if not index.is_trained:
            index.train(matrix)
        index.add(np.ascontiguousarray(matrix))
        faiss.write_index(index, str(tmp_path / "e5_Flat.index"))
        write_corpus(tmp_path / "corpus.jsonl", PASSAGES)
        return tmp_path / "e5_Flat.index"

    return write


def adopt(index, *flags: object) -> int:
    corpus, out = index.parent / "corpus.jsonl", index.parent / "out"
    return status_of(main, "--faiss", index, "--corpus", corpus, "--encoder", "hashing", "--out", out, *flags)


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "SQ8", "IVF4,Flat", "IVF4_HNSW8,Flat", "L2norm,IVF4,Flat"])
def test_an_adopted_index_is_served_like_one_of_our_own(published, tmp_path, factory):
    file = published(factory)
    before = file.read_bytes()
    assert adopt(file) == 0 and file.read_bytes() == before
    index = load_index(tmp_path / "out")
    assert [hits[0].passage for hits in index.search(["number7 alone7", "number93 alone93"], 3)] == [
        PASSAGES[7],
        PASSAGES[93],
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["adopted_from"] == str(file) and manifest["adopted_found"] >= 0.8 and manifest["count"] == 100


def test_a_file_of_gigabytes_is_linked(published, tmp_path):
    file = published()
    assert adopt(file) == 0 and (tmp_path / "out" / "vectors.faiss").samefile(file)


def test_the_folder_of_the_file_may_become_the_index(published, tmp_path):
    file = published()
    flags = ["--faiss", file, "--corpus", tmp_path / "corpus.jsonl", "--encoder", "hashing", "--out", tmp_path]
    assert status_of(main, *flags) == 0 and len(load_index(tmp_path)) == 100


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": slice(99)}, "holds 99 vectors and the corpus 100 passages"),
        ({"rows": slice(None, None, -1)}, "another corpus, order or encoder"),  # the order is another
        ({"metric": faiss.METRIC_L2}, "expected the inner product"),  # DPR's own HNSW indexes
        ({"factory": "IDMap,Flat"}, "keeps ids of its own"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(published, tmp_path, capsys, changed, said):
    if changed.get("factory"):
        index = faiss.IndexIDMap(faiss.IndexFlatIP(DIM))
        index.add_with_ids(np.eye(2, DIM, dtype="f"), np.array([5, 7]))
        file = published()
        faiss.write_index(index, str(file))
    else:
        file = published(**changed)
    assert adopt(file) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("retriever.adopt: ") and said in last and not (tmp_path / "out").exists()


def test_a_file_that_is_missing_or_no_index(published, tmp_path, capsys):
    file = published()
    assert adopt(file.with_name("nowhere")) == 2 and "cat part_*" in capsys.readouterr().err
    file.write_bytes(b"no index")
    assert adopt(file) == 2 and "cannot read e5_Flat.index" in capsys.readouterr().err


def test_a_saved_index_is_not_overwritten(published, capsys):
    file = published()
    assert adopt(file) == 0 and adopt(file) == 2 and "holds a saved index already" in capsys.readouterr().err


def test_a_bare_faiss_file_is_pointed_to_adopt(published):
    with pytest.raises(ValueError, match=r"python -m retriever\.adopt"):
        load_index(published().parent)


def test_an_encoder_of_another_length_is_refused(published, capsys, monkeypatch):
    monkeypatch.setattr("retriever.adopt.load_encoder", lambda *_, **__: HashingEncoder(64))
    assert (
        adopt(published()) == 2 and "holds vectors of length 256, encoder hashing gives 64" in capsys.readouterr().err
    )


def test_an_encoder_with_code_of_its_own_is_not_run_unasked(monkeypatch):
    """UKPLab/sentence-transformers #2272: such models cannot be loaded without the flag."""
    asked = []

    def library(model, device=None, trust_remote_code=False):
        asked.append(trust_remote_code)
        raise ValueError(f"{model} contains custom code; please pass the argument `trust_remote_code=True`\nMore.")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=library))
    with pytest.raises(ValueError, match="not run unasked.*--trust-remote-code") as caught:
        SentenceTransformerEncoder(EncoderSpec("a/model"))
    assert "\n" not in str(caught.value) and asked == [False]
    with pytest.raises(ValueError, match="cannot load the encoder"):
        load_encoder("e5-base-v2", trust_remote_code=True)
    assert asked == [False, True]
