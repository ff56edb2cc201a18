"""Reads a finished completion text back into a trajectory: for published transcripts and foreign callers.

Our own episodes record who wrote what and never come this way.
"""

from __future__ import annotations

import re
from itertools import pairwise

from foundation.errors import InputError
from r1_searcher.episode.parsing import Answer, Search, parse_action
from r1_searcher.episode.policy import Finish
from r1_searcher.episode.protocol import QUERY_FIELD, Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SearchRecord, Span, SpanKind, StopReason, Trajectory


def import_transcript(completion: str, row: QARow, protocol: Protocol) -> Trajectory:
    """The trajectory of a completion (everything after the prompt), spans without ids.

    A document block that directly follows a query-close, wrapped exactly as the protocol wraps it, becomes
    a DOCUMENTS span, and the protocol's correction, word for word, a FEEDBACK span; everything else is the
    policy's (ACTION), document tags anywhere else included. The texts of the spans join to the completion.
    The answer is taken from the last turn, as the loop does.

    Cannot be recovered:

    - token ids, log-probs and times: ids are empty, every span is `[0, 0)`;
    - who wrote a block that directly follows a query, or a correction: a policy may have forged it;
    - where a turn without a usable query ends, if the protocol lets the policy continue without a word;
    - a passage that contains the closing tag: the block ends there, the rest counts as the policy's;
    - passage ids and scores of the searches;
    - LENGTH and RETRIEVER_ERROR: a last turn with an answer is ANSWERED; one that ends in a query-close is
      SEARCH_LIMIT, or INVALID_ACTION where the query has no words; any other is NO_ANSWER;
    - where text ends and EOS begins: an EOS in the text stays at the end of its ACTION span.

    Raises:
        InputError: the protocol's documents are messages of their own: they stand in a chat template's frame.
    """
    if protocol.tools or protocol.documents_role:
        raise InputError(f"a transcript of {protocol.name} cannot be imported: its results stand in no tags of its own")
    spans = tuple(_spans(completion, protocol))
    reason, answer = _end(spans[-1], protocol)
    searches = tuple(
        _search(before.text, protocol) for before, after in pairwise(spans) if after.kind is SpanKind.DOCUMENTS
    )
    return Trajectory(row=row, ids=(), spans=spans, stop_reason=reason, answer=answer, searches=searches)


def _spans(completion: str, protocol: Protocol) -> list[Span]:
    after = ".*?".join(map(re.escape, protocol.after_documents.split(QUERY_FIELD)))
    block = f"(?<={re.escape(protocol.query.close)}){re.escape(protocol.before_documents)}.*?{after}"
    inserted = re.compile(f"{block}|{re.escape(protocol.feedback)}" if protocol.feedback else block, re.DOTALL)
    spans, end = [], 0
    for found in inserted.finditer(completion):
        kind = SpanKind.FEEDBACK if found[0] == protocol.feedback else SpanKind.DOCUMENTS
        spans.append(Span(SpanKind.ACTION, 0, 0, completion[end : found.start()]))
        spans.append(Span(kind, 0, 0, found[0]))
        end = found.end()
    if end < len(completion) or not spans:
        spans.append(Span(SpanKind.ACTION, 0, 0, completion[end:]))
    return spans


def _search(turn: str, protocol: Protocol) -> SearchRecord:
    # A protocol without a word for an unusable query leaves its closing tag in the turn that continues.
    last = turn.rpartition(protocol.query.close)[0].rpartition(protocol.query.close)[2]
    action = parse_action(protocol, last + protocol.query.close, Finish.STOP)
    query = action.query if isinstance(action, Search) else ""
    return SearchRecord(query=query, passage_ids=(), shown_ids=(), scores=(), seconds=0.0)


def _end(last: Span, protocol: Protocol) -> tuple[StopReason, str | None]:
    if last.kind is not SpanKind.ACTION:
        return StopReason.NO_ANSWER, None
    if last.text.rstrip().endswith(protocol.query.close):
        found = isinstance(parse_action(protocol, last.text, Finish.STOP), Search)
        return (StopReason.SEARCH_LIMIT if found else StopReason.INVALID_ACTION), None
    action = parse_action(protocol, last.text, Finish.EOS)
    if isinstance(action, Answer):
        return StopReason.ANSWERED, action.text
    return StopReason.NO_ANSWER, None
