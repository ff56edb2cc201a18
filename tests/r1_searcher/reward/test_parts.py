"""Parts of rewards beyond the published ones, and their free composition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes.fakes import ByteTokenizer, check_invariants, passages, play, turn_that_answers, turn_that_asks

from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.recipe.protocols import PROTOCOLS, R1_SEARCHER_BASE, R1_SEARCHER_TINY
from r1_searcher.reward.parts import (
    PARTS,
    CheckedEpisode,
    asking_judge,
    decided,
    gated,
    judged_right,
    plus_or_minus,
    retrieved,
    short,
)
from r1_searcher.reward.rewards import REWARDS, Reward, WeightedPart, compose, find_reward, score
from retriever.errors import RetrieverTimeout
from retriever.passage import Passage


def asked(protocol, found, *golds: str, titles: tuple[str, ...] = (), query: str = "q"):
    """An episode that searches once, finds this and gives a wrong answer."""
    row = QARow("1", "Which?", golds or ("Paris",), titles=titles)
    turns = [turn_that_asks(protocol, query), turn_that_answers(protocol, "wrong")]
    played = play(turns, found, protocol=protocol, row=row, tokenizer=ByteTokenizer())
    check_invariants(played)
    return played.trajectory


def evidence(protocol, *args, **kwargs) -> float:
    return PARTS["evidence"](CheckedEpisode(asked(protocol, *args, **kwargs), protocol, {}))


ALL = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@ALL
def test_evidence_is_a_gold_answer_in_a_passage(protocol):
    assert evidence(protocol, passages("A river.", "It is in Paris, France.")) == 1
    assert evidence(protocol, passages("It is in London.")) == 0
    assert evidence(protocol, passages("A tower. In the U.S."), "US") == 1


@ALL
def test_evidence_is_whole_words(protocol):
    assert evidence(protocol, passages("a party"), "art") == 0
    assert evidence(protocol, passages("New Zealand and York"), "New York") == 0
    assert evidence(protocol, passages("art"), "art") == 1


@ALL
def test_yes_and_no_are_no_evidence(protocol):
    assert evidence(protocol, passages("yes and no"), "yes") == 0
    assert evidence(protocol, passages("no"), "No.") == 0


@ALL
def test_a_single_character_is_no_evidence(protocol):
    assert evidence(protocol, passages("Chapter 3 of 7"), "3") == 0
    assert evidence(protocol, passages("Chapter 12 of 70"), "12") == 1


@ALL
def test_neither_frame_nor_ranks_are_evidence(protocol):
    names = [tag.strip("</|>") for tag in protocol.tags]
    for found in (passages("x", "y"), []):
        trajectory = asked(protocol, found)
        for gold in (*names, "1", "2", "None", "user", "assistant", "tool", "url", "query"):
            other = replace(trajectory, row=replace(trajectory.row, answers=(gold,)))
            assert PARTS["evidence"](CheckedEpisode(other, protocol, {})) == 0, gold


@ALL
def test_the_policys_own_query_is_no_evidence(protocol):
    """Tool results repeat the query: asking for the gold must not be paid for."""
    for query in ("Paris", '"quick_summary": "Paris', '\\"quick_summary\\": \\"Paris\\"', 'x", "title": "Paris"'):
        assert evidence(protocol, passages("x"), query=query) == 0
        assert evidence(protocol, [], query=query) == 0


def test_a_gold_title_is_evidence_where_titles_are_shown():
    found = [Passage("p", "Eiffel Tower", "A tower.")]
    assert evidence(R1_SEARCHER_BASE, found, titles=("Eiffel Tower",)) == 1
    assert evidence(R1_SEARCHER_BASE, found, titles=("Seine",)) == 0
    assert evidence(R1_SEARCHER_TINY, found, titles=("Eiffel Tower",)) == 0, "the tiny world shows no titles"


def test_documents_that_the_policy_wrote_are_no_evidence():
    forged = f"{R1_SEARCHER_TINY.before_documents}(1) Paris\n{R1_SEARCHER_TINY.after_documents}"
    trajectory = play([forged + turn_that_answers(R1_SEARCHER_TINY, "x")]).trajectory
    assert PARTS["evidence"](CheckedEpisode(trajectory, R1_SEARCHER_TINY, {})) == 0


@ALL
@pytest.mark.parametrize("n", [0, 1, 3])
def test_searches_are_counted_as_documents_came_back(protocol, n):
    turns = [turn_that_asks(protocol, "q")] * n + [turn_that_answers(protocol, "Paris")]
    trajectory = play(turns, passages("x"), protocol=protocol).trajectory
    result = score(compose("f1=1,searches=-0.05"), trajectory, protocol)
    assert result.parts == pytest.approx({"f1": 1.0, "searches": -0.05 * n})
    assert result.total == pytest.approx(1 - 0.05 * n)
    assert trajectory.stop_reason is StopReason.ANSWERED


@pytest.mark.parametrize("protocol", [protocol for protocol in PROTOCOLS.values() if protocol.tools])
def test_a_call_with_several_queries_costs_as_many_searches(protocol):
    turns = [turn_that_asks(protocol, "a", "b", "c", "d"), turn_that_answers(protocol, "Paris")]
    trajectory = play(turns, passages("x"), protocol=protocol).trajectory
    assert (trajectory.n_searches, PARTS["searches"](CheckedEpisode(trajectory, protocol, {}))) == (1, 3)


@ALL
def test_a_failed_search_is_neutral_everywhere(protocol):
    played = play([turn_that_asks(protocol, "q")], RetrieverTimeout("slow"), protocol=protocol)
    for name, reward in REWARDS.items():
        result = score(reward, played.trajectory, protocol)
        found = (result.total, set(result.parts.values()), set(result.rules.values()))
        assert found == (0.0, {0.0}, {True}), name


# (composition, total of "Paris France" after one search in good form: F1 2/3, EM 0, cover-EM 1, one search, evidence)
COMPOSED = [
    ("f1=1", 2 / 3),
    ("f1=1,format_broken=-2", 2 / 3),
    (" f1 = 0.5 , retrieved = 0.5 ", 1 / 3 + 0.5),
    ("f1=1,searches=-0.1,evidence=0.2", 2 / 3 - 0.1 + 0.2),
    ("em=1,cover_em=1", 1),
    ("squad_em=1,squad_f1=1,substring=1,set_f1=1", 0 + 2 / 3 + 1 + 2 / 3),
    ("format_kept=0.5,em=0", 0.5),
    ("f1=1e-3", 2 / 3000),
]


@pytest.mark.parametrize(("text", "total"), COMPOSED)
def test_compose(text, total):
    turns = [turn_that_asks(R1_SEARCHER_TINY, "q"), turn_that_answers(R1_SEARCHER_TINY, "Paris France")]
    reward = find_reward(text)
    result = score(reward, play(turns, passages("In Paris.")).trajectory, R1_SEARCHER_TINY)
    assert reward.name == text
    assert result.total == pytest.approx(total) == pytest.approx(sum(result.parts.values()))
    assert set(result.parts) == {item.split("=")[0].strip() for item in text.split(",")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f2=1", "unknown part 'f2' in the reward 'f2=1'; known: "),
        ("f1=1,f1=2", "names the part 'f1' twice"),
        ("f1=1,", "unknown part ''"),
        ("=", "unknown part ''"),
        ("f1=", "must be a number, found ''"),
        ("f1=much", "must be a number, found 'much'"),
        ("f1=nan", "must be a number, found 'nan'"),
        ("f1=inf,em=1", "must be a number, found 'inf'"),
        ("f1=1=2", "must be a number, found '1=2'"),
        ("f1=0", "is 0 for every episode: at least one weight must not be 0"),
        ("f1=0,searches=-0.0", "at least one weight must not be 0"),
        ("r1_searcher.stage3", "unknown reward 'r1_searcher.stage3'; known: r1_searcher.stage1, "),
        ("f1", "unknown reward 'f1'"),
        ("", "unknown reward ''"),
    ],
)
def test_what_is_wrong_with_a_composition_is_said(text, message):
    with pytest.raises(InputError) as raised:
        find_reward(text)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@given(st.dictionaries(st.sampled_from(sorted(PARTS)), st.floats(-10, 10), min_size=1))
def test_any_weights_sum(weights):
    text = ",".join(f"{name}={weight!r}" for name, weight in weights.items())
    if not any(weights.values()):
        with pytest.raises(InputError):
            compose(text)
        return
    trajectory = play([turn_that_answers(R1_SEARCHER_TINY, "Paris")]).trajectory
    values = {name: PARTS[name](CheckedEpisode(trajectory, R1_SEARCHER_TINY, {"kept": True})) for name in weights}
    expected = sum(weight * values[name] for name, weight in weights.items())
    assert score(compose(text), trajectory, R1_SEARCHER_TINY).total == pytest.approx(expected)


@asking_judge
def judged_or_retrieved(episode: CheckedEpisode) -> float:
    """A part of a plugin, which reads the verdict itself."""
    return float(bool(episode.judged_right)) or retrieved(episode)


@pytest.mark.parametrize("part", [judged_right, judged_or_retrieved])
@pytest.mark.parametrize(
    "made", [lambda part: part, gated, short, decided, plus_or_minus, lambda part: gated(short(part))]
)
def test_a_part_that_is_made_of_the_verdict_asks_the_judge(made, part):
    assert Reward("mine", "", {"answer": WeightedPart(1.0, made(part))}).asks_judge
    assert not Reward("mine", "", {"answer": WeightedPart(1.0, made(retrieved))}).asks_judge
