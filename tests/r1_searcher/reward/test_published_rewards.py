"""Published numbers and reward servers, row by row on R1-Searcher's released trajectories and on a sample."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from support.episodes.transcripts import RUNS, SIZES, needs_published, server_scores, transcripts

from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.episode.transcript_import import import_transcript
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE as PROTOCOL
from r1_searcher.reward.metrics import METRICS
from r1_searcher.reward.rewards import REWARDS, RewardResult, score


@cache
def rows(run: str) -> list[dict[str, str]]:
    return transcripts(run)


@cache
def trajectories(run: str) -> list[Trajectory]:
    return [import_transcript(row["completion"], QARow.from_mapping(row), PROTOCOL) for row in rows(run)]


@cache
def results(reward: str, run: str) -> list[RewardResult]:
    return [score(REWARDS[reward], trajectory, PROTOCOL) for trajectory in trajectories(run)]


@pytest.mark.parametrize(
    ("run", "published"),
    [
        pytest.param("hotpotqa_llama", (58.4, 64.8, 70.6), marks=needs_published),
        pytest.param("bamboogle_qwen", (45.6, 52.8, 57.7), marks=needs_published),
        ("made_up_llama", (55.0, 75.0, 68.2)),
        ("made_up_qwen", (55.0, 75.0, 68.2)),
    ],
)
def test_published_metrics(run: str, published: tuple[float, float, float]) -> None:
    found = [
        sum(METRICS[f"r1_searcher.{name}"](row["pred_ans"], (row["answer"],)) for row in rows(run)) / SIZES[run]
        for name in ("em", "cover_em", "f1")
    ]
    assert tuple(round(100 * value, 1) for value in found) == published


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("reward", "server"),
    [
        ("r1_searcher.base_code", "qwen_zero"),
        ("r1_searcher.llama_stage1_code", "llama_stage1"),
        ("r1_searcher.llama_stage2_code", "llama_stage2"),
    ],
)
def test_published_scores(reward: str, server: str, run: str) -> None:
    found = [result.total for result in results(reward, run)]
    assert len(found) == SIZES[run]
    assert found == pytest.approx(server_scores(server, run), abs=1e-6)  # the file has six decimals


@pytest.mark.parametrize("run", RUNS)
def test_import_loses_no_character(run: str) -> None:
    for row, trajectory in zip(rows(run), trajectories(run), strict=True):
        assert trajectory.completion == row["completion"]
        assert trajectory.stop_reason is StopReason.ANSWERED
        assert trajectory.n_searches == len(trajectory.searches) == row["completion"].count(PROTOCOL.documents.open)
        assert all(search.query for search in trajectory.searches)


def broken(reward: str, run: str) -> Counter[str]:
    return Counter(name for result in results(reward, run) for name, kept in result.rules.items() if not kept)


@needs_published
def test_rules_on_model_text_spare_innocent_passages() -> None:
    """Of the 16 and 6 trajectories that the server punishes for "assistant", the policy wrote it in one."""
    assert broken("r1_searcher.base_code", "hotpotqa_llama") == {"no_role_words": 16, "short_answer": 2}
    assert broken("r1_searcher.stage2", "hotpotqa_llama") == {"no_role_words": 1, "short_answer": 2}
    assert broken("r1_searcher.base_code", "bamboogle_qwen") == {"no_role_words": 6}
    assert broken("r1_searcher.stage2", "bamboogle_qwen") == {}


@pytest.mark.parametrize("run", ["made_up_llama", "made_up_qwen"])
def test_what_breaks_the_rules_of_the_sample(run: str) -> None:
    """Two of the four role words stand in passages only, and so does one row's Chinese."""
    shared = {"short_answer": 1, "no_cjk": 1}
    assert broken("r1_searcher.base_code", run) == {
        **shared, "no_role_words": 4, "one_think_close": 2, "one_answer_pair": 1,
    }  # fmt: skip
    assert broken("r1_searcher.stage2", run) == {**shared, "no_role_words": 2, "think_closed_once": 2, "one_answer": 2}


@pytest.mark.parametrize("run", RUNS)
def test_stage2_is_the_servers_reward_but_for_the_passages(run: str) -> None:
    for ours, theirs in zip(results("r1_searcher.stage2", run), results("r1_searcher.base_code", run), strict=True):
        spared = ours.rules["no_role_words"] and not theirs.rules["no_role_words"]
        bonus = 2.0 if spared and all(ours.rules.values()) else 0.0
        assert ours.total == pytest.approx(theirs.total + bonus)
