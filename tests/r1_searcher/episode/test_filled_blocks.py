"""Which searches filled which document block, for all that loops and agents do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.episodes.fakes import ROOMY, passages, play, turn_that_answers, turn_that_asks

from r1_searcher.episode.filled_blocks import results_in, searches_by_block
from r1_searcher.episode.trajectory import SearchRecord, Span, SpanKind, Trajectory
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, PROTOCOLS, R1_SEARCHER_TINY
from retriever.errors import RetrieverUnavailable


def played(*calls, protocol=DEEP_RESEARCHER, found=("[{", '"q": [1]}]'), limits=ROOMY):
    """An episode that asks these lists of queries and answers."""
    turns = [turn_that_asks(protocol, *queries) for queries in calls]
    return play(
        [*turns, turn_that_answers(protocol, "x")], passages(*found), protocol=protocol, limits=limits
    ).trajectory


def queries(trajectory):
    return [[search.query for search in searches] for searches in searches_by_block(trajectory)]


@pytest.mark.parametrize(
    "calls",
    [[["a"]], [["a", "b"], ["c"]], [["a"], ["a"], ["a", "a"]], [["a", 'b"c'], ["a", "d", "e"]]],
    ids=["one", "two and one", "the same again", "quotes"],
)
@pytest.mark.parametrize("found", [(), ("text",), ("[{", '[{"q": "x", "r": []}]')], ids=["none", "one", "like JSON"])
def test_queries_of_tool_calls(calls, found):
    assert queries(played(*calls, found=found)) == calls


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_one_search_a_block_in_every_protocol(protocol):
    assert queries(played(["a"], ["b"], protocol=protocol)) == [["a"], ["b"]]


@pytest.mark.parametrize("protocol", [DEEP_RESEARCHER, R1_SEARCHER_TINY], ids=lambda protocol: protocol.name)
def test_a_search_without_room_for_its_documents_filled_none(protocol):
    whole = played(["a"], ["b"], protocol=protocol)
    limits = replace(ROOMY, max_length=whole.of_kind(SpanKind.ACTION)[1].end + 2, answer_tokens=1)
    cut = played(["a"], ["b"], protocol=protocol, limits=limits)
    assert [search.shown_ids for search in cut.searches][1:] == [()]
    assert queries(cut) == [["a"]]


def test_a_failed_search_filled_none():
    turns = [turn_that_asks(R1_SEARCHER_TINY, query) for query in ("a", "b")]
    failed = play(turns, passages("x"), RetrieverUnavailable("gone")).trajectory
    assert len(failed.searches) == 2 and queries(failed) == [["a"]]


def of_an_own_agent(row, blocks, *found):
    """An episode whose agent found these, and wrote so many blocks."""
    searches = tuple(SearchRecord(query, ids, ids, (1.0,) * len(ids), 0.1) for query, ids in found)
    spans = tuple(Span(SpanKind.DOCUMENTS, 0, 0, f"block {number}") for number in range(blocks))
    return Trajectory(row, (), spans, played(["a"]).stop_reason, searches=searches)


@pytest.mark.parametrize("last", [("p",), ()], ids=["found", "found nothing"])
def test_an_own_agents_searches_that_nobody_can_assign(last):
    row = played(["a"]).row
    assert queries(of_an_own_agent(row, 2, ("a", ("p",)), ("b", last))) == [["a"], ["b"]]
    assert queries(of_an_own_agent(row, 2, ("a", ("p",)), ("b", ("p",)), ("c", last))) == [[], []]
    assert queries(of_an_own_agent(row, 2, ("a", ("p",)))) == [[], []]


@pytest.mark.parametrize("block", ["", "[{", "text [{]", "[{" * 2000, '[{"title": "x", "text": "y"}]', '[{"a": 1}]'])
def test_a_block_without_results(block):
    assert results_in(block) == []
