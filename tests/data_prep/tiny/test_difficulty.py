"""Harder tiny worlds: what each dial promises, over worlds of several seeds."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest
from transformers import Qwen2Tokenizer

from data_prep.tiny import base
from data_prep.tiny.base import SHIPPED, draw_demos
from data_prep.tiny.demos import DemoEncoder, Encoded, WrittenTurns, good_script, practice_scripts, weak_script
from data_prep.tiny.dialects import DIALECTS
from data_prep.tiny.difficulty import COMPARISON, KNOWN, QUICKSTART, SETTINGS, Dials, find_world
from data_prep.tiny.distractors import KNOWN_NAMES, free_names, known_facts, namesakes
from data_prep.tiny.facts import (
    NO,
    RELATIONS,
    WORDINGS,
    YES,
    Fact,
    Question,
    draw_questions,
    draw_world,
    text_of,
    worded,
)
from data_prep.tiny.names import name_words, pool
from data_prep.tiny.tokenizer import build_tokenizer
from data_prep.tiny.world import WorldFiles, draw_files, main
from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import HFTokenizer
from retriever.index.bm25 import Bm25Index
from retriever.passage import Passage

EVERY_DIAL = Dials("every dial", hops=(1, 2, 3, 4), comparisons=0.2, together=0.5, namesakes=2, wordings=3, known=0.2)
SEEDS = (0, 1, 7)
MEANT = {word: relation for relation, words in WORDINGS.items() for word in words}


@cache
def files_of(seed: int, difficulty: Dials = EVERY_DIAL) -> WorldFiles:
    return draw_files(seed, None, 40, 80, 60, difficulty)


@pytest.fixture(params=SEEDS)
def files(request: pytest.FixtureRequest) -> WorldFiles:
    return files_of(request.param)


def stated(passages: list[Passage]) -> dict[tuple[str, str, str], set[str]]:
    """(kind, subject, relation) to the values that the passages give."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for passage in passages:
        kind, facts = passage.text.removesuffix(" .").split(" : ")[0].split()[0].lower(), passage.text
        for fact in facts.removesuffix(" .").split(" : ")[1].split(" , "):
            relation, value = fact.split(" ", 1)
            found.setdefault((kind, passage.title, relation), set()).add(value)
    return found


def answers_from(row: QARow, facts: dict[tuple[str, str, str], set[str]]) -> set[str]:
    """What a reader of these facts answers; the question is all it knows."""
    if row.question.startswith("Do "):
        match = re.fullmatch(r"Do the (\w+) (.+) and the (\w+) (.+) have the same (\w+) \?", row.question)
        assert match is not None
        kind, one, other_kind, other, word = match.groups()
        values, others = facts[kind, one, MEANT[word]], facts[other_kind, other, MEANT[word]]
        return {YES if value == another else NO for value in values for another in others}
    match = re.fullmatch(r"What is the (.+) of the (\w+) (\w+ \w+) \?", row.question)
    assert match is not None
    words, kind, name = match.groups()
    reached = {(kind, name)}
    for word in reversed(words.split(" of the ")):
        relation = MEANT[word]
        reached = {
            (RELATIONS[kind][relation], value) for kind, subject in reached for value in facts[kind, subject, relation]
        }
    return {value for _, value in reached}


def rows_of(files: WorldFiles) -> dict[str, list[QARow]]:
    return {"rl": [*files.stage1, *files.stage2], "evaluation": files.heldout}


def test_every_question_is_answered_by_its_passages_and_by_nothing_else(files: WorldFiles) -> None:
    """Also hops and wordings are right, and no distractor states another value."""
    for rows, corpus in ((rows_of(files)["rl"], files.training_corpus), (files.heldout, files.corpus)):
        facts = stated(corpus)
        assert [(row.question, answers_from(row, facts)) for row in rows] == [
            (row.question, set(row.answers)) for row in rows
        ]
    assert all(len(values) == 1 for values in stated(files.corpus).values())


def test_hops_are_those_that_the_question_names(files: WorldFiles) -> None:
    for row in (row for rows in rows_of(files).values() for row in rows):
        assert row.hops == (2 if row.source == f"tiny_{COMPARISON}" else row.question.count(" of the "))


def test_kinds_have_their_shares(files: WorldFiles) -> None:
    counts = Counter((row.source, row.hops) for row in files.stage2)
    assert counts == {
        ("tiny_comparison", 2): 16,
        ("tiny_known", 1): 16,
        **{("tiny_world", hops): 12 for hops in (1, 2, 3, 4)},
    }
    answers = [row.answers[0] for row in rows_of(files)["rl"] if row.source == "tiny_comparison"]
    assert Counter(answers) == {YES: 12, NO: 12}


def test_nothing_is_asked_twice(files: WorldFiles) -> None:
    questions = [row.question for rows in (files.stage1, files.stage2, files.heldout) for row in rows]
    facts = [re.sub(r"\w+", lambda word: MEANT.get(word[0], word[0]), question) for question in questions]
    assert len(set(facts)) == len(facts) == 180


def test_nothing_held_out_is_in_the_training_corpus(files: WorldFiles) -> None:
    secret = {*pool("evaluation"), *known_facts("evaluation").by_subject}
    text = "\n".join(f"{passage.title}\n{passage.text}" for passage in files.training_corpus)
    assert not {name for name in secret if name in text}
    asked = {name for row in files.heldout for name in secret if name in row.question}
    assert len(asked) > 40 and not any(name in row.question for row in rows_of(files)["rl"] for name in asked)
    assert [one.id for one, other in zip(files.corpus, files.training_corpus, strict=True) if one == other]
    assert len(files.corpus) == len(files.training_corpus) == len({passage.id for passage in files.corpus})


def test_a_search_finds_every_fact_in_spite_of_distractors() -> None:
    """The right query of each hop brings the passage that states the fact among the two that are shown, nearly always
    as the first."""
    facts = draw_world(pool("rl"), Random("rl world 0"), EVERY_DIAL.together).facts
    index = Bm25Index.build(files_of(0).training_corpus)
    found = index.search([f"{fact.subject} {fact.relation}" for fact in facts], 2)
    ranks = [[states(hit.passage, fact) for hit in hits].index(True) for fact, hits in zip(facts, found, strict=True)]
    assert ranks.count(0) / len(ranks) > 0.98


def states(passage: Passage, fact: Fact) -> bool:
    return passage.title == fact.subject and f" {fact.relation} {fact.value} " in passage.text


@pytest.mark.parametrize("name", ["quickstart", "findings"])
def test_a_setting_is_the_same_world_each_time_and_another_for_another_seed(name: str) -> None:
    setting = find_world(name)
    one = draw_files(3, None, 8, 16, 16, setting)
    assert one == draw_files(3, None, 8, 16, 16, setting)
    assert one.heldout != draw_files(4, None, 8, 16, 16, setting).heldout


@pytest.mark.parametrize("name", ["findings_searching", "findings_top_k"])
def test_what_is_the_bases_alone_changes_no_question_and_no_passage(name: str) -> None:
    assert draw_files(0, None, 5, 5, 5, SETTINGS["findings"]) == draw_files(0, None, 5, 5, 5, SETTINGS[name])


def test_a_dial_that_came_later_leaves_the_older_worlds_descriptions_as_they_were() -> None:
    assert "shown" not in SETTINGS["findings"].as_mapping() | SETTINGS["findings"].of_the_base
    assert SETTINGS["findings_top_k"].of_the_base["shown"] == [1, 2, 3, 4, 5]


def test_namesakes_share_kind_and_first_word_and_nothing_else() -> None:
    world = draw_world(pool("rl"), Random(5))
    found = namesakes([world], free_names(EVERY_DIAL), 2, Random(5))
    for kind, subjects in world.by_kind.items():
        firsts = Counter(subject.split()[0] for subject in subjects)
        assert Counter(name.split()[0] for name in found.by_kind[kind]) == {word: 2 * n for word, n in firsts.items()}
    assert not set(found.by_subject) & {*pool("rl"), *pool("evaluation"), *known_facts("rl").by_subject}
    assert not {fact.value for fact in found.facts} & {*pool("rl"), *pool("evaluation")}
    with pytest.raises(InputError, match="more than names begin with"):
        namesakes([world], pool("sft")[:500], 3, Random(5))


def test_facts_stand_together_in_a_share_of_the_passages() -> None:
    world = draw_world(pool("rl"), Random(1), together=0.4)
    assert len(world.together) == 180 and len(world.passages("rl")) == 900 - 180
    passages = {passage.title: passage for passage in world.passages("rl") if passage.title in world.together}
    assert set(passages) == world.together
    assert all(passages[subject].text == text_of(list(world.by_subject[subject].values())) for subject in passages)
    assert world.facts == draw_world(pool("rl"), Random(1)).facts, "the dial moves no fact"


def test_known_facts_are_the_same_for_every_seed_and_no_others_bear_their_names() -> None:
    sides = [known_facts("rl"), known_facts("evaluation")]
    names = [{*world.by_subject, *(fact.value for fact in world.facts)} for world in sides]
    assert not names[0] & names[1] and len(free_names(EVERY_DIAL)) == len(pool("sft")) - 2 * KNOWN_NAMES
    assert not (names[0] | names[1]) & set(free_names(EVERY_DIAL))
    assert free_names(QUICKSTART) == pool("sft")
    asked = [{row.answers for row in files_of(seed).heldout if row.source == "tiny_known"} for seed in SEEDS]
    assert all({(fact.value,) for fact in sides[1].facts} >= answers for answers in asked)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_good_demonstration_searches_for_each_fact_and_for_nothing_known(dialect) -> None:
    world = draw_world(pool("evaluation"), Random(2))
    for question in draw_questions(world, 40, Random(2), EVERY_DIAL):
        script = good_script(dialect, question)
        assert list(script.queries) == [f"{fact.subject} {fact.relation}" for fact in question.facts]
        assert f" {question.answer} " in script.actions[-1]
    known = Question(known_facts("rl").facts[:1], known=True)
    assert good_script(dialect, known).queries == () and known.answer in good_script(dialect, known).actions[0]


def test_weak_demonstrations_search_as_often_as_the_dial_says() -> None:
    dialect, names = DIALECTS[SHIPPED], pool("sft")
    world = draw_world(names[:500], Random(3))
    random = Random(3)

    def rate(difficulty: Dials) -> float:
        questions = draw_questions(world, 400, random, difficulty)
        scripts = [weak_script(dialect, question, world, names, random, difficulty) for question in questions]
        return sum(bool(script.queries) for script in scripts) / len(scripts)

    often = replace(EVERY_DIAL, known=0.0)
    assert 0.2 < rate(often) < 0.4 and rate(replace(often, search_rate=0.1)) < 0.06
    assert rate(replace(often, search_rate=0.0)) == 0


def test_who_searches_less_practises_what_follows_a_search() -> None:
    dialect, names, random = DIALECTS[SHIPPED], pool("sft"), Random(4)
    world = draw_world(names[:500], random)
    often = replace(EVERY_DIAL, known=0.0)
    questions = draw_questions(world, 400, random, often)

    def practice(rate: float) -> list[tuple[Question, WrittenTurns]]:
        return practice_scripts(dialect, questions, world, names, random, replace(often, search_rate=rate))

    assert practice(1.0) == [] and 0.2 < len(practice(0.0)) / 400 < 0.4
    assert len(practice(0.5)) == pytest.approx(len(practice(0.0)) / 2, rel=0.3)
    assert all(script.queries[0] and script.untaught == 1 for _, script in practice(0.5))
    assert any(len(script.queries) > 1 for _, script in practice(0.5)), "also further searches"
    known = [Question(known_facts("rl").facts[:1], known=True)] * 50
    assert practice_scripts(dialect, known, world, names, random, replace(often, search_rate=0.0)) == []


def test_what_is_practised_begins_without_loss(findings_tokenizer: Qwen2Tokenizer) -> None:
    dialect, tokenizer = DIALECTS[SHIPPED], HFTokenizer(findings_tokenizer)
    world = draw_world(pool("sft")[:500], Random(5))
    question = draw_questions(world, 1, Random(5), Dials("x", hops=(3,)))[0]
    script, inserted = good_script(dialect, question), [" the first .", " the second .", " the third ."]
    encode = DemoEncoder(dialect.protocol, tokenizer, [], 1.0)
    whole, practised = encode(question, script, inserted), encode(question, replace(script, untaught=1), inserted)
    assert whole.ids == practised.ids
    first, *others = (tokenizer.encode(action) for action in script.actions)
    assert sum(practised.weights) == sum(len(turn) for turn in others) == sum(whole.weights) - len(first)
    changed = [
        place for place, pair in enumerate(zip(whole.weights, practised.weights, strict=True)) if len({*pair}) > 1
    ]
    assert whole.ids[changed[0] : changed[-1] + 1] == tuple(first)


@pytest.fixture(scope="module")
def findings_tokenizer() -> Qwen2Tokenizer:
    return build_tokenizer(DIALECTS[SHIPPED], SETTINGS["findings"])


def test_the_tokenizer_has_a_token_for_every_word_of_a_harder_world(findings_tokenizer: Qwen2Tokenizer) -> None:
    tokenizer = HFTokenizer(findings_tokenizer)
    words = {*MEANT, YES, NO, "Do", "same", "have", *name_words()[0], *name_words()[1]}
    assert {word for word in words if len(tokenizer.encode(f" {word}")) != 1} == set()


def test_wordings_are_words_of_their_relation_only() -> None:
    words = [word for several in WORDINGS.values() for word in several]
    assert len(set(words)) == len(words) == 30 and all(several[0] == name for name, several in WORDINGS.items())
    assert set(WORDINGS) == {relation for relations in RELATIONS.values() for relation in relations}
    assert not set(words) & {word.lower() for words in name_words() for word in words}
    world = draw_world(pool("rl"), Random(0))
    questions = draw_questions(world, 60, Random(0), Dials("x", wordings=1))
    assert {question.words for question in questions} == {()}
    again = worded(questions, Dials("x", wordings=3), Random(0))
    meant = [(MEANT[word], fact.relation) for q in again for word, fact in zip(q.words, q.facts, strict=True)]
    assert all(one == other for one, other in meant)
    assert {word for question in again for word in question.words} - set(WORDINGS)
    assert [question.answer for question in again] == [question.answer for question in questions]


def test_a_comparison_reads_as_one() -> None:
    one, other = (Fact("film", name, "director", "Zorend Negim") for name in ("Bugis Fevil", "Kadil Vomar"))
    question = Question((one, other), compares=True)
    assert question.text == "Do the film Bugis Fevil and the film Kadil Vomar have the same director ?"
    assert question.answer == YES and question.kind == COMPARISON
    assert Question((one, replace(other, value="Vekal Pubak")), compares=True).answer == NO
    assert Question((one,), known=True).kind == KNOWN


def test_the_manifest_has_every_dial(tmp_path: Path) -> None:
    words = ["--world", "findings", "--stage1", "5", "--stage2", "10", "--heldout", "10", "--out", str(tmp_path)]
    assert main(words) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["difficulty"] == SETTINGS["findings"].as_mapping()
    assert manifest["passages"] == SETTINGS["findings"].passages == len((tmp_path / "corpus.jsonl").open().readlines())
    assert main([*words[2:]]) == 2, "the quickstart's world is another one"


def test_an_unknown_world_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--world", "harder", "--out", str(tmp_path / "x")]) == 2
    assert "known: quickstart, findings" in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "dials",
    [
        {"hops": ()}, {"hops": (2, 1)}, {"hops": (0, 1)}, {"hops": (1, 5)}, {"hops": (1, 1)}, {"together": 1.1},
        {"shown": ()}, {"shown": (0, 2)},
        {"comparisons": 0.6, "known": 0.6}, {"known": -0.1}, {"namesakes": 4}, {"wordings": 0}, {"wordings": 4},
    ],
)  # fmt: skip
def test_dials_that_cannot_work_are_refused(dials: dict) -> None:
    with pytest.raises(InputError, match="the world x"):
        Dials("x", **dials)


def test_more_known_facts_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="facts known by heart"):
        draw_files(0, None, 10, 300, 10, Dials("x", known=0.5))


@pytest.fixture
def one_small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("WORLDS", 1), ("QUESTIONS_PER_WORLD", 60), ("WEAK_PER_WORLD", 60)):
        monkeypatch.setattr(base, name, number)


@pytest.mark.usefixtures("one_small_world")
def test_demonstrations_show_each_number_of_passages(findings_tokenizer: Qwen2Tokenizer) -> None:
    def shown(difficulty: Dials) -> set[int]:
        demos, _ = draw_demos(DIALECTS[SHIPPED], findings_tokenizer, 0, difficulty)
        blocks = (re.findall(r"begin_of_documents.*?end_of_documents", text, re.DOTALL) for text in map(decode, demos))
        return {len(re.findall(r"\([0-9]\)", block)) for found in blocks for block in found}

    def decode(demo: Encoded) -> str:
        return str(findings_tokenizer.decode(demo.ids))

    assert shown(SETTINGS["findings"]) == {2}
    assert shown(SETTINGS["findings_top_k"]) == {1, 2, 3, 4, 5}


@pytest.mark.usefixtures("one_small_world")
def test_demonstrations_teach_what_is_to_be_known(findings_tokenizer: Qwen2Tokenizer) -> None:
    dialect, tokenizer = DIALECTS[SHIPPED], findings_tokenizer
    texts = [[tokenizer.decode(demo.ids) for demo in demos] for demos in draw_demos(dialect, tokenizer, 0, EVERY_DIAL)]
    facts = [fact for side in ("rl", "evaluation") for fact in known_facts(side).facts]  # type: ignore[arg-type]
    for demos, share in ((texts[0], 0.2), (texts[1], 0.2)):
        told = [text for text in demos if any(f"{fact.kind} {fact.subject} ?" in text for fact in facts)]
        assert len(told) / len(demos) == pytest.approx(2 * share / (1 + 2 * share), abs=0.03)
        assert all("begin_of_query" not in text for text in told)
