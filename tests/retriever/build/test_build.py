"""Building indexes in files: equal to building in memory, refused where it does not fit, and whole after kill -9."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.processes.commands import status_of

from retriever import Passage
from retriever.build.__main__ import main
from retriever.build.embeddings import Embeddings
from retriever.index.backends import build_index, load_index
from retriever.index.corpus import write_corpus
from retriever.index.encoder import HashingEncoder
from retriever.index.manifest import IndexMismatch
from retriever.index.store import finish_store, write_shard

ROOT = Path(__file__).resolve().parents[3]
QUERIES = ["word7 word3", "word11", "nothing known", ""]


def many(count: int, seed: int = 0) -> list[Passage]:
    draw = np.random.default_rng(seed)
    return [
        Passage(str(i), f"title {i % 7}", " ".join(f"word{w}" for w in draw.zipf(1.5, 12) % 50)) for i in range(count)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder, passages = tmp_path_factory.mktemp("store"), many(2000)
    shards = [write_shard(folder / f"shard-0000{n}.arrow", passages[n * 700 : (n + 1) * 700]) for n in range(3)]
    finish_store(folder, shards)
    return folder


@pytest.fixture(scope="module")
def jsonl(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("jsonl") / "c.jsonl"
    write_corpus(file, many(2000))
    return file


def build(*arguments: object) -> int:
    return status_of(main, *arguments)


@pytest.mark.parametrize("backend", ["bm25", "dense", "hybrid"])
@pytest.mark.parametrize("source", ["store", "jsonl"])
def test_in_files_as_in_memory(backend, source, request, tmp_path):
    corpus = request.getfixturevalue(source)
    encoder = ["--encoder", "hashing"] if backend != "bm25" else []
    assert build("--corpus", corpus, "--backend", backend, "--out", tmp_path / "i", "--shard-size", 300, *encoder) == 0
    opened, expected = load_index(tmp_path / "i"), build_index(many(2000), backend, *encoder[1:])
    for found, wanted in zip(opened.search(QUERIES, 7), expected.search(QUERIES, 7), strict=True):
        assert [hit.passage for hit in found] == [hit.passage for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], rel=1e-5)
    assert len(opened) == 2000 and opened.name == expected.name
    assert not list(tmp_path.rglob(".bm25_counts")) and not list(tmp_path.rglob("building.json"))


def test_words_are_counted_by_several_processes(store, tmp_path, monkeypatch):
    monkeypatch.setattr("retriever.build.steps.PASSAGES_PER_COUNT", 700)
    for processes in (1, 2):
        out = tmp_path / str(processes)
        assert build("--corpus", store, "--backend", "bm25", "--out", out, "--processes", processes) == 0
    one, two = (load_index(tmp_path / name).search(QUERIES, 5) for name in "12")
    assert one == two


def test_a_second_run_has_nothing_to_do_and_another_index_is_refused(store, tmp_path, capsys):
    command = ["--corpus", store, "--backend", "dense", "--encoder", "hashing", "--out", tmp_path / "i"]
    assert build(*command) == 0
    before = (tmp_path / "i" / "vectors.faiss").stat().st_mtime_ns
    assert build(*command) == 0 and (tmp_path / "i" / "vectors.faiss").stat().st_mtime_ns == before
    assert build(*command, "--factory", "SQ8") == 2
    assert "factory: there 'Flat', here 'SQ8'" in capsys.readouterr().err


def test_the_folder_of_another_backend_is_left_as_it_is(store, tmp_path, capsys):
    out = tmp_path / "i"
    assert build("--corpus", store, "--backend", "bm25", "--out", out) == 0
    before = load_index(out).search(QUERIES, 3)
    assert build("--corpus", store, "--backend", "hybrid", "--encoder", "hashing", "--out", out) == 2
    said = f"{out} holds another index (backend: there 'bm25', here 'hybrid'); choose another --out, or remove it"
    assert said in capsys.readouterr().err
    assert load_index(out).search(QUERIES, 3) == before and not (out / "dense").exists()


def test_a_hybrid_of_another_corpus_is_refused_by_its_own_name(store, tmp_path, capsys):
    command = ["--backend", "hybrid", "--encoder", "hashing", "--out", tmp_path / "i"]
    assert build("--corpus", store, *command) == 0 and build("--corpus", store, *command) == 0
    write_corpus(tmp_path / "c.jsonl", many(9))
    assert build("--corpus", tmp_path / "c.jsonl", *command) == 2
    assert f"{tmp_path / 'i'} holds another index (corpus_sha256: there " in capsys.readouterr().err
    assert len(load_index(tmp_path / "i")) == 2000


def test_vectors_serve_several_indexes(store, tmp_path):
    for factory in ("Flat", "SQ8"):
        out, shared = tmp_path / factory, tmp_path / "vectors"
        arguments = ["--corpus", store, "--backend", "dense", "--encoder", "hashing", "--factory", factory]
        assert build(*arguments, "--out", out, "--embeddings", shared, "--shard-size", 512) == 0
        assert load_index(out).search(["word7"], 3)[0]
    embeddings = Embeddings.open(tmp_path / "vectors")
    assert embeddings.shards == 4 and embeddings.sample(10).shape == (10, 1024)
    with pytest.raises(IndexMismatch, match="dim: there 1024, here 64"):
        Embeddings.encode(tmp_path / "vectors", many(2000), HashingEncoder(64), shard_size=512)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "embeddings.json (No such file"),
        ("{", "embeddings.json is not JSON"),
        ("[]", "embeddings.json must hold a JSON object, found list"),
        ("{}", "cannot use embeddings.json ('count')"),
    ],
)
def test_vectors_that_nothing_is_known_of_are_refused_by_the_name_of_the_file(store, tmp_path, capsys, content, said):
    if content is not None:
        (tmp_path / "embeddings.json").write_text(content)
    with pytest.raises(IndexMismatch, match=re.escape(said)):
        Embeddings.open(tmp_path)
    command = ["--corpus", store, "--backend", "dense", "--encoder", "hashing", "--embeddings", tmp_path]
    if content in ("{", "[]"):
        assert build(*command, "--out", tmp_path / "i") == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(("shared", "calls"), [(True, [700, 700, 600]), (False, [512, 188, 512, 188, 512, 88])])
def test_encoders_on_several_gpus_get_whole_shards(tmp_path, monkeypatch, shared, calls):
    asked = []

    class Counting(HashingEncoder):
        def encode_passages(self, texts):
            asked.append(len(texts))
            return super().encode_passages(texts)

    monkeypatch.setattr("retriever.build.embeddings.takes_long_calls", lambda encoder: shared)
    monkeypatch.setattr("retriever.build.embeddings.PASSAGES_PER_CALL", 512)
    Embeddings.encode(tmp_path / "vectors", many(2000), Counting(16), shard_size=700)
    assert asked == calls


def test_dropping_vectors_leaves_what_else_is_in_their_folder(store, tmp_path):
    mine = tmp_path / "shared" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    command = ["--corpus", store, "--backend", "dense", "--encoder", "hashing", "--drop-embeddings"]
    assert build(*command, "--out", tmp_path / "i", "--embeddings", mine.parent) == 0
    assert list(mine.parent.iterdir()) == [mine] and load_index(tmp_path / "i").search(["word7"], 1)[0]
    assert build(*command, "--out", tmp_path / "j") == 0 and not (tmp_path / "j" / "embeddings").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "dense"], "needs --encoder"),
        (["--backend", "bm25", "--encoder", "hashing"], "takes no encoder"),
        (["--backend", "dense", "--encoder", "nope"], "unknown encoder 'nope'"),
        (["--backend", "dense", "--encoder", "hashing", "--factory", "Nonsense"], "'Nonsense'"),
        (["--backend", "dense", "--encoder", "hashing", "--factory", "IVF4000,Flat"], "cannot train 'IVF4000,Flat'"),
        (["--backend", "bm25", "--processes", "0"], "--processes: must be a whole number of at least 1"),
        (["--backend", "milvus", "--encoder", "hashing"], "--milvus-uri and --collection"),
    ],
)
def test_wrong_input_is_one_line(store, tmp_path, capsys, arguments, said):
    assert build("--corpus", store, "--out", tmp_path / "i", *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and not (tmp_path / "i" / "manifest.json").exists()


def test_a_missing_corpus_is_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for corpus, said in (("none.jsonl", "cannot read"), ("empty", "not a finished passage store")):
        assert build("--corpus", tmp_path / corpus, "--backend", "bm25", "--out", tmp_path / "i") == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "i").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--backend", "bm25", "--processes", "1"],
        ["--backend", "dense", "--encoder", "hashing", "--factory", "IVF8,SQ8", "--shard-size", "600"],
    ],
    ids=["bm25", "dense"],
)
def test_killed_at_every_file_the_same_command_finishes_with_equal_bytes(store, tmp_path, arguments):
    script = [
        sys.executable,
        str(ROOT / "tests/support/crashes/kill_points.py"),
        "retriever.build.__main__",
        str(tmp_path),
    ]
    command = [*script, "--corpus", str(store), "--out", "{out}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 6


@pytest.mark.parametrize("factory", ["HNSW8", "IVF8,PQ4x4", "PCA16,HNSW8", "SQ8"])
def test_adding_goes_on_from_a_snapshot_with_equal_bytes(tmp_path, monkeypatch, factory):
    """A graph draws random levels: a resumed build has to draw on where the killed one was."""
    import faiss

    from retriever.build import steps as building

    passages, plan = many(600), building.DensePlan(HashingEncoder(32), factory, shard_size=150)
    write, calls = building.FaissVectors.write, []

    def dying_write(self, path):
        write(self, path)
        calls.append(path.name)
        if calls.count("added.faiss") == 2:
            raise KeyboardInterrupt

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # several threads link a graph in an order of their own
    try:
        building.build_dense(tmp_path / "unbroken", passages, plan)
        monkeypatch.setattr(building, "SNAPSHOT_S", 0.0)
        monkeypatch.setattr(building.FaissVectors, "write", dying_write)
        with pytest.raises(KeyboardInterrupt):
            building.build_dense(tmp_path / "broken", passages, plan)
        monkeypatch.setattr(building.FaissVectors, "write", write)
        building.build_dense(tmp_path / "broken", passages, plan)
    finally:
        faiss.omp_set_num_threads(threads)
    one, two = ((tmp_path / name / "vectors.faiss").read_bytes() for name in ("unbroken", "broken"))
    assert one == two and not (tmp_path / "broken" / "added.faiss").exists()
