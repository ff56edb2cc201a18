"""Property tests over every protocol: whatever is written, found and allowed, an episode keeps its promises."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.episodes.fakes import (
    ROOMY,
    ROW,
    ByteTokenizer,
    FakeRetriever,
    Turn,
    check_invariants,
    passages,
    play,
    turn_that_answers,
    turn_that_asks,
)

from r1_searcher.episode.limits import Limits
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.rollout import Environment
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.recipe.protocols import PROTOCOLS
from r1_searcher.reward.rewards import REWARDS, compose, score
from retriever.errors import RetrieverUnavailable

PER_PROTOCOL = settings.default.max_examples // 5
ALL = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
CHATML_EOS = "<|im_end|>"
EVERY_PART = compose("retrieved=1,evidence=1,searches=1,format_kept=1,em=1,f1=1,substring=1,set_f1=1")


def tokenizers(protocol) -> list[ByteTokenizer]:
    """Tags as text, tags as special tokens, and a token that runs past each of the protocol's stops."""
    over = {stop[-2:] + "\nX" for stop in protocol.stops}
    return [
        ByteTokenizer(eos=CHATML_EOS),
        ByteTokenizer(protocol.tags, protocol.tags, eos=CHATML_EOS),
        ByteTokenizer(sorted(over)),
    ]


# By name and made once: to put a strategy together takes longer than to draw from it.
@cache
def scripts(name: str):
    """Well-formed turns, tags in any order, calls of any JSON, and ids that are no text."""
    protocol = PROTOCOLS[name]
    tags = st.sampled_from([*protocol.tags, CHATML_EOS, "<|im_start|>assistant\n", " ", '"', "\\", "\\boxed{", "}"])
    texts = st.lists(tags | st.text(max_size=6), max_size=6).map("".join)
    values = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.text(max_size=4), max_size=5)
    names = st.sampled_from(["web_search", "browse_webpage", "other"])
    arguments = st.dictionaries(st.sampled_from(["query", "url_list", "x"]), values, max_size=2) | values
    calls = st.fixed_dictionaries({"name": names, "arguments": arguments}).map(json.dumps)
    turns = st.one_of(
        texts,
        texts.filter(bool).map(lambda text: turn_that_asks(protocol, text)),
        texts.map(lambda text: turn_that_answers(protocol, text)),
        calls.map(lambda call: f"</think>{protocol.query.open}{call}{protocol.query.close}"),
        st.builds(Turn, text=texts, rambles=st.booleans()),
        st.builds(Turn, ids=st.lists(st.integers(0, 264), max_size=20).map(tuple)),
    )
    return st.lists(turns, min_size=1, max_size=5)


@cache
def hostile(name: str):
    """Passages that try to close their block, answer, search, end the turn or start another role's."""
    evil = st.sampled_from([*PROTOCOLS[name].tags, CHATML_EOS, "<|im_start|>", "\n", '"', "\\", "{", "<", "|>", "</"])
    texts = st.lists(evil | st.text(max_size=6), max_size=8).map("".join)
    return st.lists(texts, max_size=4).map(lambda texts: passages(*texts))


@cache
def findings(name: str):
    """What a retriever brings, search by search."""
    return st.lists(hostile(name) | st.just(RetrieverUnavailable("down")), min_size=1, max_size=3)


def two_searches(protocol) -> list[str]:
    """Turns of a well-formed episode."""
    return [*(turn_that_asks(protocol, query) for query in ("tower", "again")), turn_that_answers(protocol, "Paris")]


@cache
def limits(prompt_tokens: int):
    """Limits with some room after a prompt of this length; some episodes have no cap on moves."""
    return st.builds(
        Limits,
        max_searches=st.none() | st.integers(0, 4),
        turn_tokens=st.integers(1, 200),
        max_length=st.integers(max(17, prompt_tokens - 1), prompt_tokens + 400),
        top_k=st.just(4),
        answer_tokens=st.integers(1, 16),
        document_tokens=st.none() | st.integers(1, 300),
    )


@ALL
@settings(max_examples=PER_PROTOCOL, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_episode(protocol, data):
    tokenizer = data.draw(st.sampled_from(tokenizers(protocol)), "tokenizer")
    prompt = tokenizer.encode(render_prompt(protocol, ROW, tokenizer))
    script = data.draw(scripts(protocol.name), "turns")
    played = play(
        [*script, *[turn_that_answers(protocol, "end")] * 400],
        *data.draw(findings(protocol.name), "found"),
        protocol=protocol,
        limits=data.draw(limits(len(prompt)), "limits"),
        tokenizer=tokenizer,
        pages=data.draw(findings(protocol.name), "pages"),
    )
    check_invariants(played)
    check_end(played)
    system = protocol.name.split(".")[0]
    for reward in (EVERY_PART, *(reward for name, reward in REWARDS.items() if name.startswith(f"{system}."))):
        result = score(reward, played.trajectory, protocol)
        assert set(result.parts) == set(reward.parts) and set(result.rules) == set(reward.rules_under(protocol))
        assert reward is EVERY_PART or -3 <= result.total <= 2


def check_end(played) -> None:
    """The stop reason agrees with what is on record."""
    trajectory, protocol = played.trajectory, played.environment.protocol
    failed = any(search.error for search in trajectory.searches)
    assert failed == (trajectory.stop_reason is StopReason.RETRIEVER_ERROR)
    if trajectory.answer is not None:
        assert trajectory.stop_reason in (StopReason.ANSWERED, StopReason.LENGTH)
        assert trajectory.spans[-1].kind is SpanKind.ACTION and trajectory.answer in trajectory.spans[-1].text
    assert (trajectory.stop_reason is not StopReason.ANSWERED) or trajectory.answer is not None
    if trajectory.stop_reason is StopReason.SEARCH_LIMIT:
        turns = trajectory.of_kind(SpanKind.ACTION)
        assert len(turns) == played.environment.limits.max_searches + 1, "every move before this one was made"
    if trajectory.stop_reason in (StopReason.INVALID_ACTION, StopReason.NO_ANSWER) and protocol.feedback:
        assert len(trajectory.of_kind(SpanKind.ACTION)) == played.environment.limits.max_searches + 1
    for search in trajectory.searches:
        assert set(search.shown_ids) <= set(search.passage_ids)
        assert search.query and search.query == " ".join(search.query.split())


@ALL
@settings(max_examples=PER_PROTOCOL // 2)
@given(data=st.data())
def test_no_passage_changes_the_course_of_an_episode(protocol, data):
    found = data.draw(hostile(protocol.name), "found")
    attacked, harmless = (play(two_searches(protocol), result, protocol=protocol) for result in (found, ()))
    check_invariants(attacked)
    assert course(attacked) == course(harmless)


def course(played) -> dict[str, object]:
    """All of an episode but its documents; R1-Searcher's mirrors look at documents and are left out."""
    trajectory, protocol = played.trajectory, played.environment.protocol
    rewards = [reward for name, reward in REWARDS.items() if not (name.startswith("r1") and name.endswith("_code"))]
    return {
        "spans": [(span.kind, span.text) for span in trajectory.spans if span.kind is not SpanKind.DOCUMENTS],
        "trained": [trajectory.ids[start:end] for start, end in trajectory.action_ranges],
        "searches": [search.query for search in trajectory.searches],
        "end": (trajectory.n_searches, trajectory.stop_reason, trajectory.answer),
        "rewards": [score(reward, trajectory, protocol) for reward in rewards],
    }


@ALL
def test_a_well_formed_episode_keeps_every_rule_of_its_system(protocol):
    played = play(two_searches(protocol), passages("In Paris."), protocol=protocol)
    check_invariants(played)
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (StopReason.ANSWERED, "Paris")
    system = protocol.name.split(".")[0]
    for name, reward in REWARDS.items():
        if name.startswith(f"{system}."):
            result = score(reward, played.trajectory, protocol)
            assert all(kept or rule in MIRRORED for rule, kept in result.rules.items()), name


MIRRORED = {"documents_match_queries", "documents_present"}
"""R1-Searcher's servers count the string "(1)" directly after the opening tag, which the tiny world has too."""


@ALL
@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_cap_on_moves(protocol, most):
    played = play(
        [turn_that_asks(protocol, "q")] * 9,
        passages("p"),
        protocol=protocol,
        limits=replace(ROOMY, max_searches=most),
    )
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.SEARCH_LIMIT
    assert (played.trajectory.n_searches, len(played.policy.asked)) == (most, most + 1)


def test_a_tool_that_the_environment_has_not_is_a_bug():
    protocol = PROTOCOLS["deep_researcher"]
    environment = Environment(protocol, ROOMY, FakeRetriever(), ByteTokenizer())
    with pytest.raises(ValueError, match=r"deep_researcher needs a retriever 'browse'; found \[\]"):
        environment.retriever_of(protocol.tools[1])
