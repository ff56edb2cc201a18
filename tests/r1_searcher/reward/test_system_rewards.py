"""Rewards of Search-R1, ReSearch, ZeroSearch and DeepResearcher against values derived by hand.

A vector is an episode and what each reward of its system gives for it; R1-Searcher's stand in `test_rewards.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes.finished import Docs
from support.episodes.reward_vectors import (
    CALL,
    DEEP_RESEARCHER_VECTORS,
    RESEARCH_VECTORS,
    RS,
    SEARCH_R1_VECTORS,
    ZEROSEARCH_VECTORS,
    A,
    S,
    boxes,
    deep_researcher,
    research,
    says,
    search_r1,
    zerosearch,
)

from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Span, SpanKind, StopReason, Trajectory
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, RESEARCH_BASE, RESEARCH_CHAT, SEARCH_R1, ZEROSEARCH
from r1_searcher.reward import rules_search_r1 as search_r1_rules
from r1_searcher.reward.rewards import REWARDS, Reward, WeightedPart, score


def check(vector: Sequence[object], rewards: Sequence[Reward], protocol: Protocol) -> None:
    """What each reward gives for the vector's episode, in the order of its columns."""
    episode, *expected = vector
    results = [score(reward, episode, protocol) for reward in rewards]
    assert [result.total for result in results] == pytest.approx(expected), [reward.name for reward in rewards]
    assert [sum(result.parts.values()) for result in results] == pytest.approx(expected)


WITH_BONUS = Reward(
    name="bonus",
    citation="the format reward with the paper's retrieval term switched on",
    parts={"outcome": WeightedPart(1.0, search_r1_rules.outcome(structure=0.2, final=0.1, retrieval=0.1))},
    rules=search_r1_rules.RULES,
)
SEARCH_R1_REWARDS = (REWARDS["search_r1.em"], REWARDS["search_r1.format"], WITH_BONUS)
RESEARCH_REWARDS = (REWARDS["research.code"], REWARDS["research.paper"])
ZEROSEARCH_REWARDS = (REWARDS["zerosearch.f1"], REWARDS["zerosearch.containment"])


@pytest.mark.parametrize("vector", SEARCH_R1_VECTORS.values(), ids=SEARCH_R1_VECTORS)
def test_search_r1(vector) -> None:
    check(vector, SEARCH_R1_REWARDS, SEARCH_R1)


@pytest.mark.parametrize("vector", RESEARCH_VECTORS.values(), ids=RESEARCH_VECTORS)
def test_research(vector) -> None:
    check(vector, RESEARCH_REWARDS, RESEARCH_BASE)


@pytest.mark.parametrize("vector", ZEROSEARCH_VECTORS.values(), ids=ZEROSEARCH_VECTORS)
def test_zerosearch(vector) -> None:
    check(vector, ZEROSEARCH_REWARDS, ZEROSEARCH)


@pytest.mark.parametrize("vector", DEEP_RESEARCHER_VECTORS.values(), ids=DEEP_RESEARCHER_VECTORS)
def test_deep_researcher(vector) -> None:
    check(vector, [REWARDS["deep_researcher.set_f1"]], DEEP_RESEARCHER)


TABLES: Mapping[str, tuple[Protocol, Mapping[str, Sequence[object]]]] = {
    "search_r1": (SEARCH_R1, SEARCH_R1_VECTORS),
    "research": (RESEARCH_BASE, RESEARCH_VECTORS),
    "zerosearch": (ZEROSEARCH, ZEROSEARCH_VECTORS),
    "deep_researcher": (DEEP_RESEARCHER, DEEP_RESEARCHER_VECTORS),
}


@pytest.mark.parametrize(
    ("system", "vector", "broken"),
    [
        ("search_r1", "one search, right", set()),
        ("search_r1", "tags in a passage", set()),
        ("search_r1", "corrected, right", {"turns_well_formed", "queries_answered"}),
        ("search_r1", "empty query corrected, right", {"queries_answered"}),
        ("search_r1", "information by the policy", {"tags_balanced", "turns_well_formed"}),
        ("search_r1", "thought never closed", {"tags_balanced", "turns_well_formed"}),
        ("search_r1", "text after the answer", {"turns_well_formed"}),
        ("research", "one search, right", set()),
        ("research", "no search, right", set()),
        ("research", "bad format, right", {"think_pairs"}),
        ("research", "no box", {"boxed_answer"}),
        ("research", "over length, right", {"ended_by_eos"}),
        ("research", "two answers, first right", {"one_answer_pair"}),
        ("research", "result by the policy", {"queries_answered"}),
        ("research", "empty query", {"queries_answered"}),
        ("research", "missing answer", {"one_answer_pair", "boxed_answer"}),
        ("deep_researcher", "one search, right", set()),
        ("deep_researcher", "tags in a page", set()),
        ("deep_researcher", "missing answer", {"one_answer_at_least"}),
        ("deep_researcher", "thought never closed", {"balanced_thinking"}),
        ("deep_researcher", "call never closed", {"balanced_tool_calls"}),
        ("deep_researcher", "answer opened twice", {"one_answer_at_least"}),
    ],
)
def test_broken_rules(system: str, vector: str, broken: set[str]) -> None:
    protocol, vectors = TABLES[system]
    rewards = [reward for name, reward in REWARDS.items() if name.startswith(f"{system}.")]
    for reward in rewards:
        rules = score(reward, vectors[vector][0], protocol).rules
        assert {name for name, kept in rules.items() if not kept} == broken


@pytest.mark.parametrize("system", TABLES)
def test_every_system_has_two_dozen_vectors_and_logs_the_same_keys(system: str) -> None:
    protocol, vectors = TABLES[system]
    assert len(vectors) >= 25
    for reward in REWARDS.values():
        logs = [score(reward, vector[0], protocol).logs() for vector in vectors.values()]
        assert {tuple(entry) for entry in logs} == {tuple(logs[0])}
        assert all(isinstance(value, float) and str(value) != "-0.0" for entry in logs for value in entry.values())


@given(st.text(max_size=40) | st.lists(st.sampled_from([*SEARCH_R1.tags, *RESEARCH_BASE.tags, "Paris"])).map("".join))
def test_no_passage_changes_a_systems_reward(text: str) -> None:
    episodes = {
        "search_r1.em": (search_r1(S, Docs(text), A), SEARCH_R1),
        "search_r1.format": (search_r1(S, Docs(text), A), SEARCH_R1),
        "research.code": (research(RS, Docs(text), boxes("Paris")), RESEARCH_BASE),
        "research.paper": (research(RS, Docs(text), boxes("Paris")), RESEARCH_BASE),
        "zerosearch.f1": (zerosearch(S, Docs(text), A), ZEROSEARCH),
        "deep_researcher.set_f1": (deep_researcher(CALL, Docs(text), says("Paris")), DEEP_RESEARCHER),
    }
    assert {name: score(REWARDS[name], *episode).total for name, episode in episodes.items()} == dict.fromkeys(
        episodes, 1.0
    )


OPENED = Span(SpanKind.PROMPT, 0, 0, "<|im_start|>assistant\n<think>\n")
"""The end of a prompt whose chat template opens the thought itself."""


@pytest.mark.parametrize(
    ("first", "research", "searching"),
    [
        ("I look it up. </think> <search> tower </search>", True, True),
        ("<think> I look it up. </think> <search> tower </search>", True, True),  # its own, beside the template's
        ("</think><search> tower </search>", True, True),
        ("I look it up. </think> </think> <search> tower </search>", False, False),
        ("I look it up. <search> tower </search>", True, False),  # pairs are all that ReSearch counts
    ],
)
def test_a_thought_that_the_prompt_opened_counts_as_opened(first, research, searching):
    """huggingface/trl #6966, PeterGriffinJin/Search-R1 #98: only the closing tag is the policy's."""
    row = QARow("1", "Where is the tower?", ("Paris",))
    for reward, protocol, documents, answer, kept in (
        ("research.code", RESEARCH_BASE, " <result>\nIn Paris.\n</result>", "\\boxed{Paris}", research),
        ("research.code", RESEARCH_CHAT, " <result>\nIn Paris.\n</result>", "\\boxed{Paris}", research),
        ("search_r1.format", SEARCH_R1, "\n\n<information>In Paris.</information>\n\n", "Paris", searching),
    ):
        last = f"<think> Paris. </think> <answer> {answer} </answer>"
        texts = ((SpanKind.ACTION, first), (SpanKind.DOCUMENTS, documents), (SpanKind.ACTION, last))
        spans = (OPENED, *(Span(kind, 0, 0, text) for kind, text in texts))
        found = score(REWARDS[reward], Trajectory(row, (), spans, StopReason.ANSWERED, "Paris"), protocol)
        assert (found.total == 1.0) is kept, found
