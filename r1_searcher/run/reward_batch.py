"""Rewards in OpenRLHF's terms: queries, prompts, labels in; `rewards`, `scores`, `extra_logs` out.

One copy for the `reward_func` file and for the reward server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foundation.errors import InputError
from foundation.files import parse_json
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.episode.trajectory_json import from_mapping
from r1_searcher.episode.transcript_import import import_transcript
from r1_searcher.reward.rewards import Reward, score

REWARD_VARIABLE = "R1_SEARCHER_REWARD"
"""Environment variable that names the reward of the `reward_func` file."""
PROTOCOL_VARIABLE = "R1_SEARCHER_PROTOCOL"
"""The same for its protocol."""
PLUGINS_VARIABLE = "R1_SEARCHER_PLUGINS"
"""The same for files and modules with systems of the user's own, separated as in `PATH`."""


def check_needs_no_judge(reward: Reward) -> None:
    """Refuse a reward that asks a judge: only a rollout process has one, and exact match would stand in for it.

    Raises:
        InputError: naming the reward.
    """
    if reward.asks_judge:
        raise InputError(
            f"the reward {reward.name!r} asks a judge, which only a training that computes its rewards itself can do; "
            "choose another reward, or train without --reward-url"
        )


def score_batch(
    queries: Sequence[str],
    prompts: Sequence[str],
    labels: Sequence[str],
    reward: Reward,
    protocol: Protocol,
) -> dict[str, Any]:
    """The reply that OpenRLHF expects, for one query or many.

    Args:
        queries: Prompt and completion as text, special tokens included.
        prompts: The prompts alone.
        labels: JSON. Either a trajectory as `to_mapping` writes it;
            the query text is then not looked at. Or a dataset row; then the completion, what follows the
            prompt in the query text, is imported (`r1_searcher.episode.transcript_import`).

    Returns:
        `rewards` and `scores`: the totals; `extra_logs`: `RewardResult.logs`. Floats for one
        query, lists of floats for more: OpenRLHF asks for one query at a time and makes
        `torch.tensor([value])` of each value, which must have one dimension.

    Raises:
        InputError: the three lists differ in length or are empty, a label or query cannot be read, or the reward asks
            a judge.
    """
    check_needs_no_judge(reward)
    if not len(queries) == len(prompts) == len(labels) or not queries:
        raise InputError(
            f"expected as many queries as prompts as labels, at least one; "
            f"found {len(queries)}, {len(prompts)} and {len(labels)}"
        )
    results = [
        score(reward, _trajectory(*item, protocol), protocol) for item in zip(queries, prompts, labels, strict=True)
    ]
    logs = [result.logs() for result in results]
    totals = _one_or_all([result.total for result in results])
    return {
        "rewards": totals,
        "scores": totals,
        "extra_logs": {name: _one_or_all([entry[name] for entry in logs]) for name in logs[0]},
    }


def _one_or_all(values: list[float]) -> float | list[float]:
    return values[0] if len(values) == 1 else values


def _trajectory(query: str, prompt: str, label: str, protocol: Protocol) -> Trajectory:
    try:
        mapping = parse_json(label)
    except (TypeError, ValueError) as error:
        raise InputError(f"a label must be JSON, of a row or of a trajectory; found {_short(label)}") from error
    try:
        if isinstance(mapping, Mapping) and "spans" in mapping:
            return from_mapping(mapping)
        row = QARow.from_mapping(mapping)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"label is neither a row nor a trajectory ({type(error).__name__}: {error}): {_short(label)}"
        ) from error
    return import_transcript(_completion(query, prompt), row, protocol)


def _completion(query: str, prompt: str) -> str:
    # Decoding can put a BOS before the prompt, so the prompt need not be the very start.
    _, found, completion = query.partition(prompt)
    if not found:
        raise InputError(f"a query must contain its prompt; found {_short(query)} for {_short(prompt)}")
    return completion


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
