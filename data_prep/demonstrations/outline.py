"""What an episode did, without its tags: the thought and the queries of each search, what was found, the answer."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.demonstrations.blocks import passages_of
from r1_searcher.episode.parsing import Search, parse_action
from r1_searcher.episode.policy import Finish
from r1_searcher.episode.protocol import Protocol, Tags
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from retriever.passage import Passage


@dataclass(frozen=True)
class OutlinedSearch:
    """One search."""

    thought: str
    """What was said before it; may be empty."""
    queries: tuple[str, ...]
    passages: tuple[Passage, ...]
    """What the policy was shown, best first."""


@dataclass(frozen=True)
class Outline:
    """An answered episode."""

    row: QARow
    steps: tuple[OutlinedSearch, ...]
    thought: str
    """What was said before the answer."""
    answer: str


def outline_of(trajectory: Trajectory, protocol: Protocol) -> Outline | None:
    """The outline of an episode in a protocol; None where it gave no answer, or a search cannot be read.

    A turn that was corrected is left out with its correction: it is nothing to learn from.
    """
    steps: list[OutlinedSearch] = []
    said = ""
    for span in trajectory.spans:
        if span.kind is SpanKind.ACTION:
            said += span.text
        elif span.kind is SpanKind.FEEDBACK:
            said = ""
        elif span.kind is SpanKind.DOCUMENTS:
            action = parse_action(protocol, said, Finish.STOP if protocol.stops_at_query else Finish.EOS)
            if not isinstance(action, Search):
                return None
            thought = _thought(said, protocol.query, protocol.think)
            steps.append(OutlinedSearch(thought, action.queries, passages_of(protocol, span.text)))
            said = ""
    if trajectory.answer is None or protocol.answer.open not in said:
        return None
    thought = _thought(said, protocol.answer, protocol.think)
    return Outline(trajectory.row, tuple(steps), thought, trajectory.answer)


def _thought(said: str, done: Tags, think: Tags) -> str:
    before = said[: said.rfind(done.open)]
    return before.replace(think.open, "").replace(think.close, "").strip()
