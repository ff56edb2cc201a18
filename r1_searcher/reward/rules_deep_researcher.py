"""DeepResearcher's format check (`format_and_f1.py`), on what the policy wrote.

Published, the balance of tags is taken over the whole response, so that a web page which shows a literal think tag
costs the policy its reward; here only its own turns count.
"""

from __future__ import annotations

from collections.abc import Mapping

from r1_searcher.episode.protocol import Protocol, Rule, Tags
from r1_searcher.episode.trajectory import SpanKind, Trajectory


def balanced_tool_calls(trajectory: Trajectory, protocol: Protocol) -> bool:
    """As many calls are closed as are opened."""
    return _balanced(trajectory, protocol.query)


def balanced_thinking(trajectory: Trajectory, protocol: Protocol) -> bool:
    """As many thoughts are closed as are opened, those included that the environment opened at each turn's start."""
    turns = len(trajectory.of_kind(SpanKind.ACTION))
    return _balanced(trajectory, protocol.think, opened=turns if protocol.prefill.endswith(protocol.think.open) else 0)


def one_answer_at_least(trajectory: Trajectory, protocol: Protocol) -> bool:
    """There is an answer, and its tags are balanced."""
    return protocol.answer.close in trajectory.model_text and _balanced(trajectory, protocol.answer)


RULES: Mapping[str, Rule] = {
    rule.__name__: rule for rule in (balanced_tool_calls, balanced_thinking, one_answer_at_least)
}


def _balanced(trajectory: Trajectory, tags: Tags, opened: int = 0) -> bool:
    text = trajectory.model_text
    return opened + text.count(tags.open) == text.count(tags.close)
