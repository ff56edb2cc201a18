"""What the episode loop promises of tokens: budgets (6) and room for documents (7 in `test_rollout_behaviour.py`)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.episodes.fakes import (
    ACTION,
    BLOCK,
    DOCUMENTS,
    PROMPT,
    ROOMY,
    Turn,
    ask,
    check_invariants,
    passages,
    play,
    say,
    tag_tokenizer,
)

from r1_searcher.episode.trajectory import StopReason


def test_06_budget_of_the_turn():
    played = play([Turn(say("early"), rambles=True)], limits=replace(ROOMY, turn_tokens=40))
    check_invariants(played)
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (StopReason.LENGTH, "early")
    assert played.trajectory.token_count(ACTION) == 40


def test_06_a_half_written_query_at_the_budget_is_no_search():
    played = play([Turn("<|begin_of_query|>" + "long " * 50)], limits=replace(ROOMY, turn_tokens=30))
    assert (played.trajectory.stop_reason, played.retriever.requests) == (StopReason.LENGTH, [])


def test_06_a_stop_string_completed_by_the_last_token_of_the_budget_is_a_search():
    played = play([ask("abc"), say("x")], passages("p"), limits=replace(ROOMY, turn_tokens=5))
    assert [request.query for request in played.retriever.requests] == ["abc"]


def test_06_budget_of_the_episode():
    prompt = play([say("x")]).trajectory.token_count(PROMPT)
    limits = replace(ROOMY, max_length=prompt + 70, answer_tokens=10)
    played = play([Turn("", rambles=True)], limits=limits)
    check_invariants(played)
    assert (played.trajectory.stop_reason, len(played.trajectory.ids)) == (StopReason.LENGTH, prompt + 70)


@pytest.mark.parametrize("over", [0, 1, 100])
def test_06_a_prompt_that_fills_the_episode_never_reaches_the_policy(over):
    prompt = play([say("x")]).trajectory.token_count(PROMPT)
    played = play([], limits=replace(ROOMY, max_length=prompt - over if over < prompt else 2, answer_tokens=1))
    assert (played.trajectory.stop_reason, played.policy.asked) == (StopReason.LENGTH, [])
    assert played.trajectory.action_ranges == []


def _room_behind_query(tokens: int, answer_tokens: int = 10):
    """Limits with exactly this many tokens free for documents after `ask("q")`."""
    used = len(play([ask("q"), say("x")]).policy.asked[1].ids) - len(tag_tokenizer().encode(BLOCK.format("None")))
    return replace(ROOMY, max_length=used + tokens + answer_tokens, answer_tokens=answer_tokens)


def test_07_whole_passages_are_left_out_and_tags_stay():
    block = BLOCK.format("(1) short\n")
    room = len(tag_tokenizer().encode(block))
    played = play([ask("q"), say("x")], passages("much longer than there is room for", "short"),
                  limits=_room_behind_query(room))  # fmt: skip
    check_invariants(played)
    assert played.texts(DOCUMENTS) == [block]
    (search,) = played.trajectory.searches
    assert (search.passage_ids, search.shown_ids) == (("p1", "p2"), ("p2",))
    assert played.policy.asked[1].max_tokens == 10, "the reserve for the answer is untouched"


def test_07_one_token_less_and_the_passage_is_out():
    room = len(tag_tokenizer().encode(BLOCK.format("(1) short\n")))
    played = play([ask("q"), say("x")], passages("short"), limits=_room_behind_query(room - 1))
    assert played.texts(DOCUMENTS) == [BLOCK.format("None")]
    assert played.trajectory.searches[0].shown_ids == ()


def test_07_no_room_for_the_tags_ends_the_episode():
    room = len(tag_tokenizer().encode(BLOCK.format("None"))) - 1
    played = play([ask("q")], passages("p"), limits=_room_behind_query(room))
    check_invariants(played)
    assert (played.trajectory.stop_reason, played.trajectory.n_searches) == (StopReason.LENGTH, 0)
    assert played.trajectory.searches[0].passage_ids == ("p1",), "the search was made and is on record"
