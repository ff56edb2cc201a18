"""One episode as the page shows it: a short entry for the list, and the whole for the microscope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.report.passages import describe_searches
from eval.report.reading import Line
from eval.report.sources import SourceKind
from eval.report.tokens import TokenTexts
from r1_searcher.episode.trajectory import Span, SpanKind, StopReason, Trajectory
from r1_searcher.episode.trajectory_json import from_mapping
from r1_searcher.reward.metrics import cover_exact_match, exact_match, f1
from r1_searcher.reward.rules_r1_searcher import no_forged_documents

_TOKEN_LEVEL = frozenset({SpanKind.ACTION, SpanKind.FEEDBACK})
"""Spans whose tokens are shown one by one; those of prompts and documents would be most of a report's size."""


@dataclass(frozen=True)
class Episode:
    """An episode of a source."""

    line: Line
    trajectory: Trajectory

    @classmethod
    def of(cls, line: Line) -> Episode:
        """Read a line. Raises `KeyError`, `TypeError` or `ValueError` where it is no episode."""
        if not isinstance(line.content, Mapping):
            raise TypeError(f"an episode must be a JSON object, found {type(line.content).__name__}")
        return cls(line, from_mapping(line.content))

    @property
    def reward(self) -> Mapping[str, Any]:
        """`total`, `parts` and `rules`; empty where none was given."""
        return self.line.content.get("reward") or {}

    @property
    def broken_rules(self) -> list[str]:
        """Names of the format rules that were not kept."""
        return [name for name, kept in self.reward.get("rules", {}).items() if not kept]

    @property
    def forged(self) -> bool:
        """Whether the policy wrote a tag of a document block, as its protocol has them."""
        protocol = self.line.source.protocol
        if protocol is None:
            return no_forged_documents.__name__ in self.broken_rules
        return not no_forged_documents(self.trajectory, protocol)

    def is_trained(self, kind: SpanKind) -> bool:
        """Whether the loss saw the tokens of these spans; for an evaluation: whether training would have shown them."""
        if self.trajectory.stop_reason is StopReason.RETRIEVER_ERROR:
            return False
        if self.line.source.recipe.get("train_on_documents"):
            return kind is not SpanKind.PROMPT
        return kind is SpanKind.ACTION

    def entry(self) -> dict[str, Any]:
        """What list, search and filters need."""
        trajectory, content = self.trajectory, self.line.content
        answer, golds = trajectory.answer, trajectory.row.answers
        reward = self.reward.get("total")
        return {
            "step": content.get("step"),
            "decoding": content.get("decoding", ""),
            "attempt": content.get("attempt", 0),
            "replayed": self.line.replayed,
            "answer": answer,
            "stop": trajectory.stop_reason.value,
            "reward": None if reward is None else round(reward, 4),
            "f1": round(f1(answer, golds), 3),
            "em": exact_match(answer, golds),
            "cover_em": cover_exact_match(answer, golds),
            "searches": trajectory.n_searches,
            "tokens": trajectory.token_count(*SpanKind),
            "written": trajectory.token_count(SpanKind.ACTION),
            "forged": self.forged,
            "broken": self.broken_rules,
        }

    def whole(self, tokens: TokenTexts | None) -> dict[str, Any]:
        """Everything that the microscope shows; token boundaries where `tokens` can find them."""
        trajectory = self.trajectory
        return {
            "spans": [self._span(span, tokens) for span in trajectory.spans],
            "searches": describe_searches(trajectory, self.line.source.protocol),
            "reward": self.reward,
            "seconds": trajectory.seconds,
            "engine_seconds": trajectory.engine_seconds,
            "evaluated": self.line.source.kind is SourceKind.EVALUATION,
        }

    def _span(self, span: Span, tokens: TokenTexts | None) -> dict[str, Any]:
        trajectory = self.trajectory
        found: dict[str, Any] = {
            "kind": span.kind.value,
            "start": span.start,
            "end": span.end,
            "text": span.text,
            "trained": self.is_trained(span.kind),
        }
        ids = trajectory.ids[span.start : span.end]
        if span.kind not in _TOKEN_LEVEL or not ids:
            return found
        found["ids"] = ids
        if tokens is not None:
            found["lengths"] = tokens.lengths(ids, span.text)
        if trajectory.logprobs is not None and span.kind is SpanKind.ACTION:
            found["logprobs"] = [round(value, 3) for value in trajectory.logprobs[span.start : span.end]]
        return found
