"""Finished text back to spans: what is recovered, and what is not taken for a document block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.protocol import PROTOCOLS
from r1_searcher.protocol import R1_SEARCHER_BASE as PROTOCOL
from r1_searcher.question import QARow
from r1_searcher.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.transcript_import import import_transcript

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


PIECES = st.sampled_from([QUERY, BLOCK, END, "x", "\n\n", *PROTOCOL.tags])


@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=10).map("".join))
def test_no_character_is_lost_and_documents_follow_queries(text: str) -> None:
    for protocol in PROTOCOLS.values():
        found = import_transcript(text, ROW, protocol)
        assert found.completion == text
        assert found.n_searches == len(found.searches)
        for before, after in zip(found.spans, found.spans[1:], strict=False):
            assert after.kind is not SpanKind.DOCUMENTS or before.text.endswith(protocol.query.close)
