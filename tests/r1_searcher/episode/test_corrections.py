"""What the episode loop promises of corrections (13 in `test_rollout_behaviour.py`)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.episodes.fakes import (
    ACTION,
    DOCUMENTS,
    FEEDBACK,
    PROMPT,
    ROOMY,
    Turn,
    ask,
    check_invariants,
    passages,
    play,
    say,
)

from r1_searcher.episode.trajectory import StopReason
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY

FEEDBACK_TEXT = "\nThat was no query. Try again.\n"
FORGIVING = replace(R1_SEARCHER_TINY, name="forgiving", forgiving=True, feedback=FEEDBACK_TEXT)


def test_13_feedback_lets_the_policy_try_again():
    played = play([ask(""), ask("q"), say("x")], passages("p"), protocol=FORGIVING)
    check_invariants(played)
    assert played.kinds == [PROMPT, ACTION, FEEDBACK, ACTION, DOCUMENTS, ACTION]
    assert played.texts(FEEDBACK) == [FEEDBACK_TEXT]
    assert (played.trajectory.stop_reason, played.trajectory.n_searches) == (StopReason.ANSWERED, 1)


def test_13_feedback_for_ever_ends_at_the_length():
    limits = replace(ROOMY, max_length=400, max_searches=None)
    played = play([ask("")] * 50, protocol=FORGIVING, limits=limits)
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.LENGTH
    assert len(played.texts(FEEDBACK)) > ROOMY.max_searches
    assert played.trajectory.spans[-1].kind is ACTION, "feedback that nothing can follow is not inserted"


def test_13_feedback_for_ever_ends_at_the_cap():
    played = play([ask("")] * 50, protocol=FORGIVING, limits=replace(ROOMY, max_searches=3))
    check_invariants(played)
    assert played.kinds == [PROMPT, *[ACTION, FEEDBACK] * 3, ACTION]
    assert played.trajectory.stop_reason is StopReason.INVALID_ACTION


@pytest.mark.parametrize("turns", [["Hm.", ask("q"), ask("")], [ask(""), "Hm.", ask("q")], [ask("q"), ask("q"), "Hm."]])
def test_13_searches_and_corrections_share_one_cap(turns):
    played = play([*turns, ask("one more")], passages("p"), protocol=FORGIVING, limits=replace(ROOMY, max_searches=3))
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.SEARCH_LIMIT
    assert [request.query for request in played.retriever.requests] == ["q"] * turns.count(ask("q"))


def test_13_a_turn_without_an_action_is_corrected_too():
    played = play(["I wonder.", Turn("x" * 30), say("y")], protocol=FORGIVING, limits=replace(ROOMY, turn_tokens=20))
    check_invariants(played)
    assert played.kinds == [PROMPT, ACTION, FEEDBACK, ACTION, FEEDBACK, ACTION]
    assert played.trajectory.ids[played.trajectory.spans[1].end - 1] == 256, "the EOS was sampled and stays"
    assert played.trajectory.stop_reason is StopReason.ANSWERED


def test_13_an_empty_correction_lets_the_policy_go_on_after_an_unusable_query_only():
    silent = replace(R1_SEARCHER_TINY, name="silent", forgiving=True)
    played = play([ask(""), ask("q"), "I give up."], passages("p"), protocol=silent)
    check_invariants(played)
    assert played.kinds == [PROMPT, ACTION, ACTION, DOCUMENTS, ACTION]
    assert played.trajectory.stop_reason is StopReason.NO_ANSWER
    endless = play([ask("")] * 50, protocol=silent, limits=replace(ROOMY, max_searches=None, max_length=100))
    check_invariants(endless)
    assert endless.trajectory.stop_reason is StopReason.LENGTH


@pytest.mark.parametrize("room", range(0, 40))
def test_13_feedback_is_inserted_only_where_a_token_can_follow(room):
    start = len(play([ask("")]).trajectory.ids)
    limits = replace(ROOMY, max_length=start + room, answer_tokens=1)
    played = play([ask(""), say("x")], protocol=FORGIVING, limits=limits)
    check_invariants(played)
    assert bool(played.texts(FEEDBACK)) == (room > len(FEEDBACK_TEXT)) == (len(played.policy.asked) == 2)
    assert played.trajectory.spans[-1].kind is ACTION
