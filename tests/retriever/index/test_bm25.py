"""BM25: ranking, determinism, emptiness, save and load; recall on real passages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import Passage
from retriever.check import read_queries, recall_of_gold
from retriever.index.backends import load_index
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import read_corpus
from retriever.index.manifest import IndexMismatch
from retriever.index.postings import Counts, count_words, gather, weigh
from retriever.index.words import query_words, whole_words, words


def ids(hits) -> list[str]:
    return [hit.passage.id for hit in hits]


def test_words_fold_case_and_accents_and_keep_everything_else():
    assert words("The ALÛ's film_2, Straße; λόγος") == ["the", "alu", "s", "film", "2", "strasse", "λογοσ"]
    assert words("") == words("?! _") == []


def test_the_rarer_word_decides(bm25):
    assert ids(bm25.search(["the capital spirit of France"], 1)[0]) == ["p3"]


def test_the_title_counts(bm25, passages):
    assert ids(bm25.search(["Christopher Nolan"], 1)[0]) == ["p2"]
    untitled = Bm25Index.build(passages, title_weight=0)
    assert untitled.search(["mythology"], 5)[0] and ids(untitled.search(["mythology"], 5)[0]) == ["p1"]


def test_only_passages_that_share_a_word_are_hits(bm25):
    hits = bm25.search(["spirit"], 100)[0]
    assert sorted(ids(hits)) == ["p0", "p1"] and all(hit.score > 0 for hit in hits)


@pytest.mark.parametrize("query", ["", "   ", "zzz", "?"])
def test_a_query_without_a_known_word_finds_nothing(bm25, query):
    assert bm25.search([query, "paris"], 3)[0] == ()


def test_a_word_of_every_passage_still_scores_above_zero():
    index = Bm25Index.build([Passage(str(i), "", "same") for i in range(5)])
    assert ids(index.search(["same"], 3)[0]) == ["0", "1", "2"]


def test_equal_scores_come_in_corpus_order(bm25):
    assert ids(bm25.search(["same words"], 2)[0]) == ["p4", "p5"]
    assert ids(bm25.search(["same words"], 1)[0]) == ["p4"]


def test_a_batch_answers_like_single_queries(bm25):
    queries = ["akkadian spirit", "zzz", "film director"]
    assert bm25.search(queries, 3) == [bm25.search([query], 3)[0] for query in queries]
    assert bm25.search([], 3) == []


@pytest.mark.parametrize("passages", [[], [Passage("1", "", "?!")]])
def test_nothing_to_index_is_an_error(passages):
    with pytest.raises(ValueError, match="nothing to index"):
        Bm25Index.build(passages)


@pytest.mark.parametrize("wrong", [{"b": 2}, {"k1": -1}, {"title_weight": -1}])
def test_wrong_parameters(passages, wrong):
    with pytest.raises(ValueError, match="BM25"):
        Bm25Index.build(passages, **wrong)


def test_a_passage_without_words_is_kept_and_never_found():
    index = Bm25Index.build([Passage("0", "", ""), Passage("1", "", "word")])
    assert len(index) == 2 and ids(index.search(["word"], 5)[0]) == ["1"]


def test_save_and_load(bm25, passages, tmp_path):
    bm25.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    queries = ["akkadian spirit", "is the", "zzz"]
    assert loaded.search(queries, 5) == bm25.search(queries, 5)
    assert (len(loaded), loaded.name) == (len(passages), "bm25")


def test_a_damaged_index_is_refused(bm25, tmp_path):
    bm25.save(tmp_path)
    (tmp_path / "vocab.index.json").unlink()
    with pytest.raises(IndexMismatch, match="cannot read"):
        Bm25Index.load(tmp_path)


def test_a_changed_corpus_is_refused(bm25, tmp_path):
    bm25.save(tmp_path)
    file = tmp_path / "passages.jsonl"
    file.write_text(file.read_text().replace("Paris", "Rome"))
    with pytest.raises(IndexMismatch, match="corpus_sha256: there"):
        Bm25Index.load(tmp_path)


@pytest.mark.parametrize("broken", [None, "{", '{"format": 99}', "[]"])
def test_an_unfinished_or_foreign_folder_is_refused(bm25, tmp_path, broken):
    bm25.save(tmp_path)
    (tmp_path / "manifest.json").unlink()
    if broken is not None:
        (tmp_path / "manifest.json").write_text(broken)
    with pytest.raises(IndexMismatch):
        load_index(tmp_path)


def test_scores_are_those_of_the_library(passages):
    """Our own counting gives what bm25s computes from token lists."""
    import bm25s

    draw = np.random.default_rng(0)
    many = [Passage(str(i), "t", " ".join(f"w{w}" for w in draw.zipf(1.4, 30) % 200)) for i in range(300)]
    library = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    library.index([words(p.title) * 2 + words(p.text) for p in many], show_progress=False)
    ours = Bm25Index.build(many)
    for query in (["w1"], ["w3", "w17", "w1"], ["w5", "w5", "t"]):
        expected = library.get_scores(query)
        ranking = ours.rank([" ".join(query)], 300)[0]
        assert np.allclose(expected[ranking.rows], ranking.scores, rtol=1e-5)
        assert len(ranking.rows) == (expected > 0).sum()


@given(st.lists(st.text("abc ", max_size=12), min_size=1, max_size=20), st.integers(1, 7))
def test_counting_in_parts_is_counting_at_once(texts, size):
    many = [Passage(str(i), "a", text) for i, text in enumerate(texts)]
    parts = [count_words(many[start : start + size], 1) for start in range(0, len(many), size)]
    results = []
    for shards in (parts, [count_words(many, 1)]):
        statistics = gather(shards)
        arrays = weigh(shards, statistics, 1.2, 0.75, lambda _, length, dtype: np.empty(length, dtype))
        results.append((statistics.vocabulary, statistics.count, {name: a.tolist() for name, a in arrays.items()}))
    assert results[0] == results[1]


def test_counts_survive_the_disk(passages, tmp_path):
    for some in (passages, [], [Passage("0", "", "")]):
        counts = count_words(some, 2)
        counts.save(tmp_path / "c.npz")
        again = Counts.load(tmp_path / "c.npz")
        assert again.words == counts.words and np.array_equal(again.starts, counts.starts)
        assert np.array_equal(again.rows, counts.rows) and np.array_equal(again.times, counts.times)


def recall_at_5(passages: Path, questions: Path) -> float | None:
    asked = read_queries(questions)
    hits = Bm25Index.build(read_corpus(passages)).search([question.text for question in asked], 5)
    return recall_of_gold(hits, asked)


def test_recall_on_a_small_encyclopedia(encyclopedia):
    assert recall_at_5(encyclopedia / "passages.jsonl", encyclopedia / "questions.jsonl") == pytest.approx(0.95)


def test_recall_on_real_passages(wiki_mini):
    found = recall_at_5(wiki_mini / "passages.jsonl", wiki_mini / "hotpotqa_100.jsonl")
    assert found is not None and found >= 0.74


def corpus_of(*texts: str) -> Bm25Index:
    return Bm25Index.build([Passage(str(i), "", text) for i, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("texts", "query", "found"),
    [
        # run-llama/llama_index #13866, vespa-engine/vespa #30639, AgriciDaniel/claude-obsidian #120
        (("北京是中国的首都。", "東京タワーは東京にある。"), "中国的首都", ["0"]),
        (("北京是中国的首都。", "東京タワーは東京にある。"), "東京タワー", ["1"]),
        (("富士山は日本一高い山です。", "琵琶湖は日本一大きい湖です。"), "山", ["0"]),  # one character
        (("서울은 대한민국의 수도이다.", "서점 앞에서 울고 있었다."), "서울", ["0"]),  # deepset-ai/haystack #12867
        (("ガイドブック", "カイト"), "ガイド", ["0"]),  # voiced marks tell kana apart: rohitg00/agentmemory PR #947
        (("กรุงเทพเป็นเมืองหลวงของประเทศไทย", "สวัสดี"), "ประเทศไทย", ["0"]),
        (("大模型RAG检索", "no such thing"), "rag", ["0"]),  # bluesky585/nibble PR #63: pairs end with the script
        (("𠮷野家は牛丼の店。", "吉野川は川。"), "𠮷野家", ["0"]),  # beyond the first plane of Unicode
    ],
)
def test_scripts_without_spaces(texts, query, found):
    assert ids(corpus_of(*texts).search([query], 5)[0]) == found


def test_pairs_of_neighbours_and_single_characters():
    assert words("iPhone15は東京都") == ["iphone15", "は", "東", "京", "都", "は東", "東京", "京都"]
    assert query_words("東京都 x") == ["東京", "京都", "x"] and query_words("山") == ["山"]


@given(st.text(st.characters(max_codepoint=0x6FF), max_size=40))
def test_scripts_with_spaces_are_cut_as_they_were(text):
    assert words(text) == query_words(text) == whole_words(text)


def test_an_index_of_an_earlier_version_is_searched_as_it_was_cut(tmp_path, monkeypatch):
    """Its manifest says `words-1`: English finds what it found, and a sentence without spaces is one word."""
    monkeypatch.setattr("retriever.index.postings.words", whole_words)
    monkeypatch.setattr("retriever.index.bm25.WORDS_VERSION", "words-1")
    corpus_of("Paris is the capital", "北京是中国的首都").save(tmp_path)
    monkeypatch.undo()
    loaded = load_index(tmp_path)
    assert [ids(hits) for hits in loaded.search(["the capital", "北京", "北京是中国的首都"], 5)] == [["0"], [], ["1"]]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("words-1", "words-9"))
    with pytest.raises(IndexMismatch, match="words-9"):
        load_index(tmp_path)
