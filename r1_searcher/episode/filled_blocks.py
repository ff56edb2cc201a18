"""Which searches filled which document block: read back from an episode, which records both in order, not together.

The built-in loop gives every search a block of its own, or one block to a tool call of several requests, whose JSON has
an entry for each. A user's own agent may search any number of times before it goes on, and writes the block itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from r1_searcher.episode.trajectory import SearchRecord, SpanKind, Trajectory

_START = "[{"


def searches_by_block(trajectory: Trajectory) -> list[tuple[SearchRecord, ...]]:
    """For each document block the searches that filled it, in order; all empty where the record does not tell."""
    blocks = trajectory.of_kind(SpanKind.DOCUMENTS)
    answered = [search for search in trajectory.searches if not search.error]
    counts = [1] * len(blocks)
    if len(answered) != len(blocks):  # no block is without a search, so as many of both are pairs
        counts = [len(results_in(block.text)) or 1 for block in blocks]
    if sum(counts) > len(answered) or not _filled_none(answered[sum(counts) :]):
        return [()] * len(blocks)
    left = iter(answered)
    return [tuple(islice(left, count)) for count in counts]


def results_in(block: str) -> list[dict[str, Any]]:
    """The JSON of a tool call in a block, an object for each of its requests; empty where the block holds none."""
    start = block.find(_START)
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(block, start)
        except (ValueError, RecursionError):
            found = []
        if found and all(map(_is_result, found)):
            return list(found)
        start = block.find(_START, start + 1)
    return []


def _is_result(entry: object) -> bool:
    """Whether it is a request and its passages, by whichever keys."""
    kinds = sorted(type(value).__name__ for value in entry.values()) if isinstance(entry, dict) else []
    return kinds == [list.__name__, str.__name__]


def _filled_none(rest: Sequence[SearchRecord]) -> bool:
    """Whether these are of a call that had no room for its passages; what an own agent finds counts as shown."""
    return not rest or (any(search.passage_ids for search in rest) and not any(search.shown_ids for search in rest))
