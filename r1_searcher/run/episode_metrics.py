"""The numbers that every episode contributes to the curves, under the names that they are logged by."""

from __future__ import annotations

from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.reward.metrics import cover_exact_match, exact_match, f1
from r1_searcher.reward.rewards import RewardResult
from retriever.simulated.prompts import PASSAGE_IDS, kind_name

NOISY_PASSAGE = f"{PASSAGE_IDS}{kind_name(useful=False)}/"
"""How the ids of passages begin that a simulated engine made to be useless."""


def episode_metrics(
    trajectory: Trajectory, reward: RewardResult | None, *, failed_attempts: int = 0, reward_seconds: float = 0.0
) -> dict[str, float]:
    """`group/name` to value; the same keys for every episode of a run, so that a step's mean is defined.

    Args:
        reward: None where none was given; its metrics are then left out.
        failed_attempts: times that this episode was thrown away because its search failed.
        reward_seconds: wall time of scoring it.
    """
    searches = trajectory.searches
    return {
        **(reward_metrics(reward) if reward is not None else {}),
        **search_metrics(trajectory),
        "retrieval/seconds": sum(search.seconds for search in searches) / len(searches) if searches else 0.0,
        "retrieval/failed_attempts": float(failed_attempts),
        "retrieval/noisy": _noisy_share(trajectory),
        **answer_metrics(trajectory.answer, trajectory.row.answers),
        "tokens/action": float(trajectory.token_count(SpanKind.ACTION)),
        "tokens/documents": float(trajectory.token_count(SpanKind.DOCUMENTS)),
        "seconds/episode": trajectory.seconds + reward_seconds,
        "seconds/engine": trajectory.engine_seconds,
        "seconds/retrieval": float(sum(search.seconds for search in searches)),
        "seconds/reward": reward_seconds,
        **{f"stop/{reason.value}": float(trajectory.stop_reason is reason) for reason in StopReason},
    }


def reward_metrics(reward: RewardResult) -> dict[str, float]:
    """Each part and rule of a reward, and whether every rule was kept."""
    return {**reward.logs(), "format/rate": float(bool(reward.rules) and all(reward.rules.values()))}


def search_metrics(trajectory: Trajectory) -> dict[str, float]:
    """Whether and how often documents came back."""
    return {
        "retrieval/rate": float(trajectory.n_searches > 0),
        "retrieval/searches": float(trajectory.n_searches),
    }


def answer_metrics(answer: str | None, golds: tuple[str, ...]) -> dict[str, float]:
    """R1-Searcher's metrics of an answer."""
    return {
        "answer/em": exact_match(answer, golds),
        "answer/cover_em": cover_exact_match(answer, golds),
        "answer/f1": f1(answer, golds),
    }


def _noisy_share(trajectory: Trajectory) -> float:
    """Share of the searches that a simulated engine answered with documents made to be useless."""
    noisy = sum(any(name.startswith(NOISY_PASSAGE) for name in search.passage_ids) for search in trajectory.searches)
    return noisy / len(trajectory.searches) if trajectory.searches else 0.0
