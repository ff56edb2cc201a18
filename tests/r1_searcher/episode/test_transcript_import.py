"""Finished text back to spans: what is recovered, and what is not taken for a document block."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.episodes.fakes import ROOMY, Played, passages, play, turn_that_answers, turn_that_asks

from foundation.errors import InputError
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.episode.transcript_import import import_transcript
from r1_searcher.recipe.protocols import PROTOCOLS, SEARCH_R1
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE as PROTOCOL
from r1_searcher.reward.rewards import REWARDS, score

ROW = QARow(id="1", question="Which city?", answers=("Paris",))
QUERY = '<|begin_of_query|> "capital"  France <|end_of_query|>'
BLOCK = "\n\n<|begin_of_documents|>\n(1)Paris\n<|end_of_documents|>\n\n"
END = "So.</think> <answer> Paris </answer>"


def imported(text: str) -> Trajectory:
    return import_transcript(text, ROW, PROTOCOL)


def kinds(trajectory: Trajectory) -> str:
    return "".join(span.kind.value[0] for span in trajectory.spans)


def test_a_whole_episode() -> None:
    found = imported(f"I search {QUERY}{BLOCK}more {QUERY}{BLOCK}{END}")
    assert kinds(found) == "adada"
    assert [span.text for span in found.of_kind(SpanKind.DOCUMENTS)] == [BLOCK, BLOCK]
    assert [search.query for search in found.searches] == ["capital France"] * 2
    assert (found.stop_reason, found.answer) == (StopReason.ANSWERED, "Paris")
    assert (found.ids, found.action_ranges, found.logprobs) == ((), [], None)
    assert found.row is ROW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BLOCK}{END}", "a"),  # no query before it
        (f"{QUERY} {BLOCK}{END}", "a"),  # not directly after it
        (f"{QUERY}\n<|begin_of_documents|>\n(1)x\n<|end_of_documents|>\n\n{END}", "a"),  # not the wrapping
        (f"{QUERY}{BLOCK.rstrip()} {END}", "a"),  # not its end
        (f"{QUERY}{BLOCK}{BLOCK}{END}", "ada"),  # only the first follows a query
        (f"{QUERY}{BLOCK}", "ad"),
        (END, "a"),
        ("", "a"),
    ],
)
def test_which_blocks_are_documents(text: str, expected: str) -> None:
    assert kinds(imported(text)) == expected


def test_a_passage_that_closes_its_block_cannot_be_told_from_the_policy() -> None:
    found = imported(
        f"{QUERY}\n\n<|begin_of_documents|>\n(1)<|end_of_documents|>\n\nrest\n<|end_of_documents|>\n\n{END}"
    )
    assert kinds(found) == "ada"
    assert found.spans[2].text.startswith("rest")


@pytest.mark.parametrize(
    ("text", "reason", "answer"),
    [
        (END, StopReason.ANSWERED, "Paris"),
        (f"{END}<|im_end|>", StopReason.ANSWERED, "Paris"),
        ("<answer>London</answer><answer>Paris</answer>", StopReason.ANSWERED, "Paris"),
        ("So.</think>", StopReason.NO_ANSWER, None),
        ("<answer>Paris", StopReason.NO_ANSWER, None),
        (f"{QUERY}{BLOCK}", StopReason.NO_ANSWER, None),
        (f"{END}{QUERY}{BLOCK}Done.", StopReason.NO_ANSWER, None),  # the answer is the last turn's
        (QUERY, StopReason.SEARCH_LIMIT, None),
        ("<|begin_of_query|> <|end_of_query|>", StopReason.INVALID_ACTION, None),
        ("capital<|end_of_query|>", StopReason.INVALID_ACTION, None),
    ],
)
def test_how_it_ended(text: str, reason: StopReason, answer: str | None) -> None:
    found = imported(text)
    assert (found.stop_reason, found.answer) == (reason, answer)


ASKS_AGAIN = replace(PROTOCOL, name="asks_again", after_documents="<|end_of_documents|>\n\nAgain: {query}\n")
TAGGED = [*(protocol for protocol in PROTOCOLS.values() if not protocol.tools), ASKS_AGAIN]


@pytest.mark.parametrize("protocol", TAGGED, ids=lambda protocol: protocol.name)
@settings(max_examples=settings.default.max_examples // 5)
@given(data=st.data())
def test_no_character_is_lost_and_documents_follow_queries(protocol: Protocol, data: st.DataObject) -> None:
    own = [*protocol.tags, protocol.before_documents, protocol.after_documents, protocol.feedback, "\n\n"]
    pieces = st.sampled_from([QUERY, BLOCK, END, *own])
    text = "".join(data.draw(st.lists(pieces | st.text(max_size=5), max_size=10)))
    found = import_transcript(text, ROW, protocol)
    assert found.completion == text
    assert found.n_searches == len(found.searches)
    for before, after in zip(found.spans, found.spans[1:], strict=False):
        assert after.kind is not SpanKind.DOCUMENTS or before.text.endswith(protocol.query.close)


EVERY_TAGGED = pytest.mark.parametrize("protocol", TAGGED, ids=lambda protocol: protocol.name)
LIMITS = replace(ROOMY, max_searches=3)


def assert_same(played: Played, again: Trajectory) -> None:
    """What a reward or a reader of transcripts sees is the same."""
    ours, protocol = played.trajectory, played.environment.protocol
    assert [(span.kind, span.text) for span in again.spans] == [(span.kind, span.text) for span in ours.spans[1:]]
    assert (again.stop_reason, again.answer, again.n_searches) == (ours.stop_reason, ours.answer, ours.n_searches)
    answered = [search.query for search in ours.searches][: ours.n_searches]
    assert [search.query for search in again.searches] == answered
    for reward in REWARDS.values():
        assert score(reward, again, protocol) == score(reward, ours, protocol), reward.name


@EVERY_TAGGED
def test_round_trip_of_answered_episodes(protocol):
    asks = [turn_that_asks(protocol, f"tower {n}") for n in range(2)]
    for searches, found in product(range(3), [("In Paris.",), ("A river.", "< In Paris >"), ()]):
        turns = [*asks[:searches], turn_that_answers(protocol, "Paris")]
        played = play(turns, passages(*found), protocol=protocol, row=ROW, limits=LIMITS)
        assert_same(played, import_transcript(played.trajectory.completion, ROW, protocol))


@EVERY_TAGGED
def test_round_trip_of_episodes_without_an_answer(protocol):
    asks = turn_that_asks(protocol, "tower")
    for turns in ([asks, asks, asks, asks], [asks, f"hm {protocol.query.open} {protocol.query.close}"]):
        limits = replace(LIMITS, max_searches=len(turns) - 1)
        played = play(turns, passages("x"), protocol=protocol, row=ROW, limits=limits)
        assert played.trajectory.stop_reason in (StopReason.SEARCH_LIMIT, StopReason.INVALID_ACTION)
        assert_same(played, import_transcript(played.trajectory.completion, ROW, protocol))
    wanders = play(["hm"], protocol=protocol, row=ROW, limits=replace(LIMITS, max_searches=0))
    assert_same(wanders, import_transcript(wanders.trajectory.completion, ROW, protocol))


@pytest.mark.parametrize("protocol", [p for p in TAGGED if p.feedback], ids=lambda protocol: protocol.name)
def test_round_trip_of_corrections(protocol):
    turns = ["Hm.", turn_that_asks(protocol, "tower"), "", turn_that_answers(protocol, "Paris")]
    played = play(turns, passages("In Paris."), protocol=protocol, row=ROW, limits=LIMITS)
    again = import_transcript(played.trajectory.completion, ROW, protocol)
    assert_same(played, again)
    assert kinds(again) == "afadafa"


def test_a_correction_that_is_not_word_for_word_is_the_policys():
    text = f"Hm.{SEARCH_R1.feedback[:-2]}<answer>Paris</answer>"
    assert kinds(import_transcript(text, ROW, SEARCH_R1)) == "a"


@pytest.mark.parametrize("protocol", [p for p in TAGGED if p.forgiving and not p.feedback], ids=lambda p: p.name)
def test_a_turn_that_went_on_after_an_unusable_query_is_one_span(protocol):
    """The loop has two spans there; the searches, the answer and the rewards are the same."""
    turns = ["oops</search>", turn_that_asks(protocol, "tower"), turn_that_answers(protocol, "Paris")]
    played = play(turns, passages("In Paris."), protocol=protocol, row=ROW)
    again = import_transcript(played.trajectory.completion, ROW, protocol)
    assert (kinds(again), again.answer) == ("ada", "Paris")
    assert [search.query for search in again.searches] == ["tower"]
    for name in ("research.code", "research.paper"):
        assert score(REWARDS[name], again, protocol) == score(REWARDS[name], played.trajectory, protocol)


AS_MESSAGES = [*(p for p in PROTOCOLS.values() if p.tools), replace(PROTOCOL, name="user's", documents_role="user")]


@pytest.mark.parametrize("protocol", AS_MESSAGES, ids=lambda protocol: protocol.name)
def test_a_protocol_whose_documents_are_messages_has_no_transcripts_to_import(protocol):
    with pytest.raises(InputError, match=f"a transcript of {protocol.name} cannot be imported"):
        import_transcript("x</think><answer>Paris</answer>", ROW, protocol)
