"""Which search filled which document block, and where in the block its passages stand. For display only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1_searcher.episode.filled_blocks import searches_by_block
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.trajectory import SearchRecord, SpanKind, Trajectory


def describe_searches(trajectory: Trajectory, protocol: Protocol | None) -> list[dict[str, Any]]:
    """The searches as JSON, with `block` (place among the document blocks, None: it filled none) and `starts`.

    Where the record does not tell which of an own agent's searches filled which block, they are shown in order.
    """
    blocks = trajectory.of_kind(SpanKind.DOCUMENTS)
    filled = [place for place, searches in enumerate(searches_by_block(trajectory)) for _ in searches]
    places = iter(filled or range(len(blocks)))
    described: list[dict[str, Any]] = []
    for search in trajectory.searches:
        block = None if search.error else next(places, None)
        starts = () if block is None else passage_starts(blocks[block].text, search, protocol)
        described.append({**vars(search), "block": block, "starts": starts})
    return described


def passage_starts(text: str, search: SearchRecord, protocol: Protocol | None) -> Sequence[int]:
    """Where in a block each shown passage begins, in UTF-16 units as a browser counts them.

    Empty where they cannot be told apart: the protocol is unknown, or does not number its passages.
    """
    head = protocol.passage_format.split("{title")[0].split("{text")[0] if protocol else ""
    if protocol is None or search.tool or "{rank}" not in head or protocol.before_documents not in text:
        return ()
    starts: list[int] = []
    at = text.index(protocol.before_documents) + len(protocol.before_documents)
    for rank in range(1, len(search.shown_ids) + 1):
        own = head.format(rank=rank)
        if starts or not text.startswith(own, at):
            at = text.find("\n" + own, at) + 1  # passages stand on lines of their own
        if not text.startswith(own, at) or (starts and at == 0):
            return ()
        starts.append(len(text[:at].encode("utf-16-le", "surrogatepass")) // 2)
    return starts
