"""Property tests: whatever is written, found and allowed, the spans and masks keep their promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.episodes.fakes import (
    ROOMY,
    ROW,
    ByteTokenizer,
    Turn,
    ask,
    check_invariants,
    overshooting_tokenizer,
    passages,
    play,
    say,
    tag_tokenizer,
)

from r1_searcher.episode.limits import Limits
from r1_searcher.episode.trajectory import SpanKind, StopReason, TrajectoryRecorder
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE, R1_SEARCHER_CHAT, R1_SEARCHER_TINY
from retriever.errors import RetrieverUnavailable

TAGS = [*R1_SEARCHER_TINY.tags, "<|endoftext|>"]
texts = st.lists(st.one_of(st.sampled_from([*TAGS, " ", "\n", '"']), st.text(max_size=6)), max_size=6).map("".join)
turns = st.one_of(
    texts,
    texts.map(ask),
    texts.map(say),
    st.builds(Turn, text=texts, rambles=st.booleans()),
    st.builds(Turn, ids=st.lists(st.integers(0, 264), max_size=20).map(tuple)),
)
results = st.one_of(
    st.lists(texts, max_size=4).map(lambda found: passages(*found)),
    st.just(RetrieverUnavailable("down")),
)
limits = st.builds(
    Limits,
    max_searches=st.integers(0, 3),
    turn_tokens=st.integers(1, 60),
    max_length=st.integers(17, 400),
    top_k=st.just(4),
    answer_tokens=st.integers(1, 16),
)
protocols = st.sampled_from(
    [
        R1_SEARCHER_TINY,
        R1_SEARCHER_BASE,
        R1_SEARCHER_CHAT,
        replace(R1_SEARCHER_TINY, forgiving=True, feedback="Again.\n"),
        replace(R1_SEARCHER_TINY, forgiving=True, feedback="<|end_of_query|>"),
    ]
)
tokenizers = st.sampled_from([ByteTokenizer, tag_tokenizer, overshooting_tokenizer])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(turns, min_size=1, max_size=4),
    found=st.lists(results, min_size=1, max_size=3),
    limits=limits,
    protocol=protocols,
    make_tokenizer=tokenizers,
    with_logprobs=st.booleans(),
)
def test_any_episode(script, found, limits, protocol, make_tokenizer, with_logprobs):
    if protocol.name != "r1_searcher.tiny":  # their prompts alone are longer than most drawn limits
        limits = replace(limits, max_length=limits.max_length + 2000)
    script = [*script, *[say("end")] * 400]
    played = play(
        script,
        *found,
        protocol=protocol,
        limits=limits,
        tokenizer=make_tokenizer(),
        with_logprobs=with_logprobs,
    )
    check_invariants(played)
    trajectory = played.trajectory
    assert isinstance(trajectory.stop_reason, StopReason)
    failed = [search for search in trajectory.searches if search.error]
    assert bool(failed) == (trajectory.stop_reason is StopReason.RETRIEVER_ERROR)
    if trajectory.stop_reason is StopReason.ANSWERED:
        assert trajectory.answer is not None and trajectory.spans[-1].kind is SpanKind.ACTION
    if trajectory.stop_reason is StopReason.SEARCH_LIMIT:
        corrections = trajectory.of_kind(SpanKind.FEEDBACK)
        assert len(trajectory.searches) + len(corrections) == limits.max_searches
    for search in trajectory.searches:
        assert set(search.shown_ids) <= set(search.passage_ids)
    assert trajectory.token_count(*SpanKind) == len(trajectory.ids)


@given(room=st.integers(0, 120), found=st.lists(st.text(max_size=30), max_size=4))
def test_documents_never_eat_the_answers_reserve(room, found):
    base = len(play([ask("q")], RetrieverUnavailable("x")).trajectory.ids)
    limits = replace(ROOMY, max_length=base + 20 + room, answer_tokens=20)
    played = play([ask("q"), say("x")], passages(*found), limits=limits)
    check_invariants(played)
    if played.trajectory.n_searches:
        assert played.policy.asked[1].max_tokens >= 20
    else:
        assert played.trajectory.stop_reason is StopReason.LENGTH


def test_the_recorder_refuses_misaligned_logprobs():
    recorder = TrajectoryRecorder(ROW)
    with pytest.raises(ValueError, match="1 log-probs for 2 ids"):
        recorder.append(SpanKind.ACTION, [1, 2], "x", [-0.5])


def test_a_recorder_without_one_turns_logprobs_gives_none():
    recorder = TrajectoryRecorder(ROW)
    recorder.append(SpanKind.PROMPT, [1], "p")
    recorder.append(SpanKind.ACTION, [2], "a", [-0.5])
    assert recorder.finish(StopReason.LENGTH).logprobs == (0.0, -0.5)
    recorder.append(SpanKind.ACTION, [3], "b")
    assert recorder.finish(StopReason.LENGTH).logprobs is None


def test_a_finished_trajectory_does_not_grow():
    recorder = TrajectoryRecorder(ROW)
    recorder.append(SpanKind.PROMPT, [1], "p")
    finished = recorder.finish(StopReason.LENGTH)
    recorder.append(SpanKind.ACTION, [2], "a", [-0.5])
    assert finished.ids == (1,) and len(finished.spans) == 1


def test_views_of_the_spans():
    recorder = TrajectoryRecorder(ROW)
    for kind, text in (
        ("prompt", "P"),
        ("action", "A"),
        ("documents", "D"),
        ("feedback", "F"),
        ("action", "B"),
    ):
        recorder.append(SpanKind(kind), [0, 0], text, [-1.0, -2.0] if kind == "action" else None)
    recorder.append(SpanKind.ACTION, [], "", [])
    trajectory = recorder.finish(StopReason.ANSWERED, answer="x")
    assert trajectory.action_ranges == [(2, 4), (8, 10)], "an empty range would be no action"
    assert trajectory.model_text == "A\nB\n" and trajectory.completion == "ADFB"
    assert trajectory.n_searches == 1
    assert trajectory.token_count(SpanKind.ACTION) == 4
    assert trajectory.token_count(SpanKind.DOCUMENTS, SpanKind.FEEDBACK) == 4
    assert [span.text for span in trajectory.of_kind(SpanKind.FEEDBACK, SpanKind.PROMPT)] == ["P", "F"]
