"""Near-duplicates: every planted one goes, unrelated ones stay, and the index finds what comparing all would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pydoc_data.topics import topics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.decontaminate import decontaminate, main
from data_prep.questions.near_duplicates import TestIndex, TestQuestion, Thresholds, words_of
from r1_searcher.episode.question import QARow, read_rows

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "questions"
QUESTIONS = (
    "Who directed the film that was shot in Leland?",
    "What's the capital of the country where São Paulo lies?",
    "Which band was formed first, The Clash or U2?",
)


def row(question: str, answer: str = "a", name: str = "1") -> QARow:
    return QARow(name, question, (answer,))


def is_found(question: str, test: str, answer: str = "other", **thresholds: float) -> bool:
    index = TestIndex([TestQuestion("t", row(test))], Thresholds(**thresholds))
    return index.match(row(question, answer)) is not None


def test_words_are_without_case_accents_and_punctuation():
    assert words_of("What’s São-Paulo's “size”?") == {"whats", "sao", "paulos", "size"}
    assert words_of("ﬁne_print, U.S.") == words_of("fine print u s")


@pytest.mark.parametrize("question", QUESTIONS)
def test_reworded_punctuation_case_and_one_word_are_found(question):
    words = question.split()
    planted = [question, question.upper(), question.rstrip("?"), question.replace(" ", "  ") + "!!", f"«{question}»"]
    planted += [" ".join([*words[:n], "zebra", *words[n + 1 :]]) for n in range(len(words))]
    planted += [" ".join(words[:n] + words[n + 1 :]) for n in range(len(words))]
    planted += [" ".join([*words[:n], "zebra", *words[n:]]) for n in range(len(words))]
    assert [each for each in planted if not is_found(each, question)] == []


def test_short_questions_with_the_same_answer_are_found_and_others_stay():
    assert is_found("Who wrote Emma's sequel?", "Who wrote Dune's sequel?", "A")
    assert is_found("Who wrote Emma?", "Who wrote Dune?", "a") and not is_found("Who wrote Emma?", "Who wrote Dune?")
    assert not is_found("Who wrote Emma's sequel?", "Who wrote Dune's sequel?", "b")
    assert is_found("Where was Ann's father born?", "Where was Bob's father born?", "b")
    assert not is_found("Are A and B directors?", "Are C and D directors?", "yes")
    assert not is_found("How long is the Nile?", QUESTIONS[0], "a")
    assert not is_found("?!", QUESTIONS[0], "a") and not is_found(QUESTIONS[0], "?!")


words = st.lists(st.sampled_from("abcdefghij"), max_size=8).map(" ".join)


@given(
    words,
    st.lists(words, max_size=6),
    st.sampled_from([(0.3, 0.3), (0.5, 0.5), (0.75, 0.5), (1.0, 1.0)]),
    st.sampled_from([1, 4, 99]),
)
def test_the_index_finds_what_comparing_all_finds(question, tests, bounds, one_word):
    thresholds = Thresholds(words=bounds[0], same_answer=bounds[1], one_word=one_word)
    listed = [TestQuestion("t", row(test, "xy"[number % 2], str(number))) for number, test in enumerate(tests)]
    match = TestIndex(listed, thresholds).match(row(question, "x"))
    mine = words_of(question)
    near = []
    for number, test in enumerate(tests):
        both = mine | words_of(test)
        similarity = len(mine & words_of(test)) / len(both) if both else 0.0
        one_off = len(both) - len(mine & words_of(test)) <= 2 and len(mine) - len(words_of(test)) in (-1, 0, 1)
        one_off = one_off and len(mine & words_of(test)) >= (max(1, one_word // 2) if number % 2 == 0 else one_word)
        near += [(similarity, -number)] if one_off or similarity >= bounds[number % 2 == 0] else []
    assert (match is None) == (not near)
    if match is not None:
        assert match.test.row.id == str(-max(near)[1]) and match.similarity == round(max(near)[0], 4)


def python_prose() -> tuple[list[QARow], list[QARow]]:
    """Sentences of the Python reference, which every installation has: 200, and those that share no half with any."""
    text = " ".join(" ".join(topic.split()) for _, topic in sorted(topics.items()))
    sentences = dict.fromkeys(each for each in re.split(r"(?<=[.:]) (?=[A-Z])", text) if 8 <= len(each.split()) <= 30)
    rows = [row(f"{sentence[:-1]}?", f"a{n}", str(n)) for n, sentence in enumerate(sentences)]
    Random(1).shuffle(rows)
    tested = [words_of(each.question) for each in rows[:200]]

    def unlike(words: frozenset[str]) -> bool:
        return all(2 * len(words & other) < len(words | other) for other in tested)

    return rows[:200], [each for each in rows[200:] if unlike(words_of(each.question))]


def released_questions() -> tuple[list[QARow], list[QARow]]:
    if not SHARED.is_dir():
        pytest.skip(f"no real questions: {SHARED} is not here")
    return read_rows(SHARED / "hotpotqa_500.jsonl")[:200], read_rows(SHARED / "stage_2.jsonl")[:2000]


@pytest.mark.parametrize(("read", "others"), [(python_prose, 0.0), (released_questions, 0.005)])
def test_planted_near_duplicates_all_go_and_hardly_any_other(read, others):
    tested, train = read()
    assert len(tested) == 200 and len(train) >= 800
    tests, draw = [TestQuestion("t", each) for each in tested], Random(0)
    planted = []
    for number, test in enumerate(tests):
        split = test.row.question.lower().rstrip("?").split()
        split[draw.randrange(len(split))] = "something"
        planted.append(QARow(f"planted-{number}", " ".join(split) + " ...", test.row.answers))
    mixed = [*train, *planted]
    draw.shuffle(mixed)
    parted = decontaminate(mixed, tests, Thresholds())
    gone = {match.row.id for match in parted.removed}
    assert {each.id for each in planted} <= gone
    assert len(gone) - len(planted) <= others * len(train)
    assert [each for each in mixed if each.id not in gone] == parted.kept


def write(path: Path, *rows: QARow) -> Path:
    path.write_text("".join(each.to_json() + "\n" for each in rows))
    return path


def test_what_was_removed_is_listed_beside_its_test_question(tmp_path, caplog):
    caplog.set_level("INFO")
    train = write(tmp_path / "train.jsonl", row(QUESTIONS[0].upper(), "x", "n"), row("How long is the Nile?", "y", "o"))
    first = write(tmp_path / "first.jsonl", row("Something else entirely?", "b", "7"))
    second = write(tmp_path / "second.jsonl", row(QUESTIONS[0], "b", "8"))
    out = tmp_path / "clean.jsonl"
    assert main(["--train", str(train), "--test", str(first), str(second), "--out", str(out)]) == 0
    assert [each.id for each in read_rows(out)] == ["o"]
    (removed,) = map(json.loads, (tmp_path / "clean.jsonl.removed.jsonl").read_text().splitlines())
    assert (removed["id"], removed["test_file"], removed["test_id"]) == ("n", str(second), "8")
    assert removed["similarity"] == 1.0 and not removed["same_answer"]
    assert "1 of 2 questions kept" in caplog.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--train": "nowhere"}, "dataset not found"),
        ({"--threshold": "1.5"}, "--threshold"),
        ({"--same-answer-threshold": "0"}, "thresholds"),
        ({"--out": "{train}"}, "is one of the inputs"),
        ({"--out": "{folder}/no/clean.jsonl"}, "existing folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, changed, said):
    train = write(tmp_path / "train.jsonl", row("q"))
    options = {"--train": str(train), "--test": str(train), "--out": str(tmp_path / "clean.jsonl"), **changed}
    arguments = [part.format(train=train, folder=tmp_path) for pair in options.items() for part in pair]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    """microsoft/promptflow PR #4172, wbolster/jsonlines #68: editors of Windows, Excel."""
    for name, question in (("train", "Who sang it?"), ("test", "Where is it?")):
        line = json.dumps({"id": name, "question": question, "answers": ["x"]})
        (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8-sig")
    paths = ["--train", str(tmp_path / "train.jsonl"), "--test", str(tmp_path / "test.jsonl")]
    assert main([*paths, "--out", str(tmp_path / "clean.jsonl")]) == 0
    assert json.loads((tmp_path / "clean.jsonl").read_text())["id"] == "train"


def test_half_an_emoji_is_one_line_and_leaves_nothing(tmp_path, capsys):
    """huggingface/transformers PR #43459: a lone surrogate is legal in JSON, and cannot be written."""
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text('{"id": "1", "question": "Who sang \\ud83d in 1999?", "answers": ["x"]}\n')
    write(test, row("t"))
    assert main(["--train", str(train), "--test", str(test), "--out", str(tmp_path / "clean.jsonl")]) == 2
    error = capsys.readouterr().err
    assert "train.jsonl, line 1: " in error and "half of a surrogate pair" in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [test, train]
