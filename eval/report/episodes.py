"""One episode as the page shows it: a short entry for the list, and the whole for the microscope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.report.passages import describe_searches
from eval.report.reading import ReportedEpisode
from eval.report.runs import RunKind
from eval.report.tokens import TokenTexts
from r1_searcher.episode.trajectory import Span, SpanKind
from r1_searcher.reward.rules_r1_searcher import no_forged_documents

_TOKEN_LEVEL = frozenset({SpanKind.ACTION, SpanKind.FEEDBACK})
"""Spans whose tokens are shown one by one; those of prompts and documents would be most of a report's size."""


def list_entry(episode: ReportedEpisode) -> dict[str, Any]:
    """The facts that list, search and filters need."""
    record, trajectory = episode.record, episode.record.trajectory
    reward, metrics = record.reward, record.metrics
    return {
        "step": record.step,
        "decoding": record.decoding,
        "attempt": record.attempt or 0,
        "replayed": episode.replayed,
        "answer": record.answer,
        "stop": trajectory.stop_reason.value,
        "reward": None if reward is None else round(reward.total, 4),
        "f1": round(metrics["answer/f1"], 3),
        "em": metrics["answer/em"],
        "cover_em": metrics["answer/cover_em"],
        "searches": trajectory.n_searches,
        "tokens": trajectory.token_count(*SpanKind),
        "written": trajectory.token_count(SpanKind.ACTION),
        "forged": is_forged(episode),
        "broken": broken_rules(episode),
    }


def whole_episode(episode: ReportedEpisode, tokens: TokenTexts | None) -> dict[str, Any]:
    """Everything that the microscope shows; token boundaries where `tokens` can find them."""
    trajectory = episode.record.trajectory
    return {
        "spans": [_span(episode, span, tokens) for span in trajectory.spans],
        "searches": describe_searches(trajectory, episode.run.protocol),
        "reward": _reward(episode),
        "seconds": trajectory.seconds,
        "engine_seconds": trajectory.engine_seconds,
        "evaluated": episode.run.kind is RunKind.EVALUATION,
    }


def broken_rules(episode: ReportedEpisode) -> list[str]:
    """Names of the format rules that were not kept, in the reward's order."""
    reward = episode.record.reward
    return [] if reward is None else [name for name, kept in reward.rules.items() if not kept]


def is_forged(episode: ReportedEpisode) -> bool:
    """Whether the policy wrote a tag of a document block, as its protocol has them."""
    protocol = episode.run.protocol
    if protocol is None:
        return no_forged_documents.__name__ in broken_rules(episode)
    return not no_forged_documents(episode.record.trajectory, protocol)


def is_trained(episode: ReportedEpisode, kind: SpanKind) -> bool:
    """Whether the loss saw the tokens of these spans; for an evaluation: whether training would have shown them."""
    if episode.record.failed:
        return False
    if episode.run.recipe.get("train_on_documents"):
        return kind is not SpanKind.PROMPT
    return kind is SpanKind.ACTION


def _reward(episode: ReportedEpisode) -> Mapping[str, Any]:
    """`total`, `parts` and `rules`; empty where none was given."""
    reward = episode.record.reward
    return {} if reward is None else {"total": reward.total, "parts": reward.parts, "rules": reward.rules}


def _span(episode: ReportedEpisode, span: Span, tokens: TokenTexts | None) -> dict[str, Any]:
    trajectory = episode.record.trajectory
    found: dict[str, Any] = {
        "kind": span.kind.value,
        "start": span.start,
        "end": span.end,
        "text": span.text,
        "trained": is_trained(episode, span.kind),
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
