"""A watched episode: the same to the token, and what is told adds up to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes.asked_agents import StreamedPolicy
from support.episodes.fakes import (
    EOS,
    ROOMY,
    ROW,
    ByteTokenizer,
    FakeRetriever,
    ScriptedPolicy,
    Turn,
    ask,
    overshooting_tokenizer,
    passages,
    play,
    say,
    tag_tokenizer,
)

from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.episode.watching import (
    ActionEnded,
    ActionGrew,
    DocumentsGiven,
    EpisodeEnded,
    Event,
    FeedbackGiven,
    PromptGiven,
    SearchStarted,
)
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY, SEARCH_R1
from retriever.errors import RetrieverUnavailable


def watched(turns, *results, tokenizer=None, protocol=R1_SEARCHER_TINY, sizes=(1,), policy=StreamedPolicy):
    """(trajectory, events) of a watched episode."""
    tokenizer = tokenizer or tag_tokenizer(protocol)
    environment = Environment(protocol, ROOMY, FakeRetriever(results or ((),)), tokenizer)
    events: list[Event] = []
    player = policy(tokenizer, turns) if policy is ScriptedPolicy else policy(tokenizer, turns, sizes=sizes)
    return asyncio.run(run_episode(environment, ROW, player, watch=events.append)), events


def told(events: Sequence[Event]) -> list[tuple[SpanKind, str]]:
    """The spans that the events make, the policy's from what it wrote bit by bit."""
    spans, grown = [], ""
    for event in events:
        match event:
            case PromptGiven(text):
                spans.append((SpanKind.PROMPT, text))
            case ActionGrew(text):
                grown += text
            case ActionEnded(text):
                assert grown == text
                spans.append((SpanKind.ACTION, grown))
                grown = ""
            case DocumentsGiven(_, text) if text:
                spans.append((SpanKind.DOCUMENTS, text))
            case FeedbackGiven(text):
                spans.append((SpanKind.FEEDBACK, text))
    return spans


def without_time(trajectory: Trajectory) -> Trajectory:
    searches = tuple(replace(search, seconds=0.0) for search in trajectory.searches)
    return replace(trajectory, searches=searches, seconds=0.0, engine_seconds=0.0)


texts = st.lists(st.sampled_from(["Hm. ", "é", "🗼", "東", "\ufffd", EOS, "<|begin_of_query|>", "\n"]), max_size=6)
turns = st.lists(texts.map("".join).map(lambda thought: ask("tower", thought)), max_size=3)
ids = st.lists(st.integers(0, 300), max_size=12).map(lambda found: Turn(ids=tuple(found)))


@given(
    searches=turns,
    last=ids | st.just(say("Paris")) | st.just(Turn("no end ", rambles=True)),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    tokenizer=st.sampled_from([tag_tokenizer(), overshooting_tokenizer(), ByteTokenizer(["éé", "🗼🗼x"])]),
)
def test_watching_changes_nothing_and_what_is_told_adds_up(searches, last, sizes, tokenizer):
    script, found = [*searches, last, *[say("Paris")] * 8], passages("a tower 🗼")
    trajectory, events = watched(script, found, tokenizer=tokenizer, sizes=sizes)
    plain = play(script, found, tokenizer=tokenizer).trajectory
    assert without_time(trajectory) == without_time(plain)
    assert told(events) == [(span.kind, span.text) for span in plain.spans]
    assert events[-1] == EpisodeEnded(trajectory)


def test_everything_is_told_in_its_order():
    trajectory, events = watched([ask("tower", "Hm. "), say("Paris")], passages("in Paris", "in Rome"))
    kinds = [type(event) for event in events if not isinstance(event, ActionGrew)]
    assert kinds == [PromptGiven, ActionEnded, SearchStarted, DocumentsGiven, ActionEnded, EpisodeEnded]
    assert sum(isinstance(event, ActionGrew) for event in events) > 10, "bit by bit"
    (started,) = (event for event in events if isinstance(event, SearchStarted))
    (documents,) = (event for event in events if isinstance(event, DocumentsGiven))
    assert started.queries == ("tower",)
    (search,) = documents.searches
    assert (search.query, search.error) == ("tower", "") and search.passages == tuple(passages("in Paris", "in Rome"))
    assert trajectory.searches[0].shown_ids == tuple(passage.id for passage in search.passages)


def test_a_failed_search_is_told():
    _, events = watched([ask("tower")], RetrieverUnavailable("nobody listens"))
    (documents,) = (event for event in events if isinstance(event, DocumentsGiven))
    assert documents.text == "" and documents.searches[0].passages == ()
    assert "nobody listens" in documents.searches[0].error


def test_a_correction_is_told():
    protocol = SEARCH_R1
    trajectory, events = watched(["What now?", "<answer>Paris</answer>"], protocol=protocol)
    assert FeedbackGiven(protocol.feedback) in events
    assert told(events) == [(span.kind, span.text) for span in trajectory.spans]


def test_a_policy_that_cannot_be_watched_tells_whole_turns():
    trajectory, events = watched([say("Paris", "Hm.")], policy=ScriptedPolicy)
    assert [event.text for event in events if isinstance(event, ActionGrew)] == [
        span.text for span in trajectory.of_kind(SpanKind.ACTION)
    ]


def test_a_watcher_that_fails_is_a_bug_of_its_own():
    def watch(event):
        raise LookupError("no page")

    policy = ScriptedPolicy(tag_tokenizer(), [say("Paris")])
    environment = Environment(R1_SEARCHER_TINY, ROOMY, FakeRetriever(), tag_tokenizer())
    with pytest.raises(LookupError, match="no page"):
        asyncio.run(run_episode(environment, ROW, policy, watch=watch))
