"""Finished episodes from their texts, for rewards: no tokens, answers recorded as the loop records them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r1_searcher.episode.parsing import Answer, Truncated, parse_action
from r1_searcher.episode.policy import Finish
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Span, SpanKind, StopReason, Trajectory

EXAMPLE = "as in <answer> Lake Geneva </answer>, with \\boxed{Lake Geneva} <think>"


@dataclass(frozen=True)
class Docs:
    """Text between the frame's ends, as the environment inserts it."""

    text: str


@dataclass(frozen=True)
class Correction:
    """What the environment inserts after a malformed action."""


@dataclass(frozen=True)
class Episodes:
    """Makes finished episodes of one protocol; answers are recorded as the loop does it."""

    protocol: Protocol

    def __call__(
        self,
        *turns: str | Docs | Correction,
        golds: Sequence[str] = ("Paris",),
        reason: StopReason = StopReason.ANSWERED,
    ) -> Trajectory:
        spans = (Span(SpanKind.PROMPT, 0, 0, EXAMPLE), *map(self._span, turns))
        row = QARow(id="1", question="Which city?", answers=tuple(golds))
        return Trajectory(row=row, ids=(), spans=spans, stop_reason=reason, answer=self._answer(spans[-1], reason))

    def _span(self, turn: str | Docs | Correction) -> Span:
        match turn:
            case Docs(text):
                block = f"{self.protocol.before_documents}{text}{self.protocol.after_documents}"
                return Span(SpanKind.DOCUMENTS, 0, 0, block)
            case Correction():
                return Span(SpanKind.FEEDBACK, 0, 0, self.protocol.feedback)
        return Span(SpanKind.ACTION, 0, 0, turn)

    def _answer(self, last: Span, reason: StopReason) -> str | None:
        if reason is StopReason.ANSWERED:
            ends_at_tag = self.protocol.stops_at_answer and last.text.rstrip().endswith(self.protocol.answer.close)
            action = parse_action(self.protocol, last.text, Finish.STOP if ends_at_tag else Finish.EOS)
            assert isinstance(action, Answer), f"the loop finds no answer in {last.text!r}"
            return action.text
        cut = parse_action(self.protocol, last.text, Finish.LENGTH)
        return cut.answer if reason is StopReason.LENGTH and isinstance(cut, Truncated) else None
