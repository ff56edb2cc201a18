"""evaluate(): the training loop's episodes, concurrently, over any policy."""

from __future__ import annotations

import asyncio

import pytest
from support.episodes.evaluations import RECIPE, policy_of, retriever_of, right, rows, wrong
from support.episodes.fakes import passages

from eval.play.evaluation import FAILURES_IN_A_ROW, evaluate
from foundation.errors import InputError, RunAborted
from r1_searcher.episode.rollout import Environment
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.inference.decoding import Decoding
from r1_searcher.run.episode_record import EpisodeRecord
from retriever.errors import RetrieverUnavailable


def run(questions, policy, retriever, **options) -> list[EpisodeRecord]:
    environment = Environment(RECIPE.protocol, RECIPE.limits, retriever, policy.tokenizer)
    return asyncio.run(evaluate(questions, environment, policy, RECIPE.reward, **options))


def test_every_question_is_played_once_and_scored():
    questions, retriever = rows(9), retriever_of()
    seen: list[EpisodeRecord] = []
    episodes = run(questions, policy_of(questions), retriever, concurrency=4, finished=seen.append)
    assert sorted(episode.trajectory.row.id for episode in episodes) == [row.id for row in questions]
    assert seen == episodes
    assert {episode.trajectory.stop_reason for episode in episodes} == {StopReason.ANSWERED}
    assert {episode.reward.total for episode in episodes} == {1.0}
    assert len(retriever.requests) == 9


@pytest.mark.parametrize("concurrency", [1, 3, 100])
def test_no_more_episodes_at_once_than_allowed(concurrency: int):
    questions = rows(10)
    policy, running, most = policy_of(questions), 0, 0
    generate = policy.generate

    async def counting(*arguments, **options):
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        completion = await generate(*arguments, **options)
        running -= 1
        return completion

    policy.generate = counting  # type: ignore[method-assign]
    run(questions, policy, retriever_of(), concurrency=concurrency)
    assert most == min(concurrency, 10)


def test_a_failed_search_is_an_episode_of_its_own_kind():
    questions = rows(3)
    found = passages("a fact")
    retriever = retriever_of(found, RetrieverUnavailable("down"), found)
    episodes = run(questions, policy_of(questions), retriever, concurrency=1)
    assert [episode.failed for episode in episodes] == [False, True, False]
    assert episodes[1].reward.total == 0.0


def test_a_dead_service_ends_the_evaluation_with_its_last_failure():
    questions = rows(100)
    retriever = retriever_of(RetrieverUnavailable("no route"))
    with pytest.raises(RunAborted, match="no route.*same command"):
        run(questions, policy_of(questions), retriever, concurrency=8)
    assert FAILURES_IN_A_ROW <= len(retriever.requests) < 50


def test_episodes_without_a_search_do_not_hide_a_dead_service():
    questions = rows(100)
    policy = policy_of(questions, lambda row: (wrong if row.hops == 1 else right)(row))
    with pytest.raises(RunAborted):
        run(questions, policy, retriever_of(RetrieverUnavailable("down")), concurrency=1)


def test_a_bug_raises_and_stops_the_other_episodes():
    questions = rows(50)
    policy = policy_of(questions, lambda row: [] if row.id == "id3" else right(row))
    finished: list[EpisodeRecord] = []
    with pytest.raises(IndexError):
        run(questions, policy, retriever_of(), concurrency=4, finished=finished.append)
    assert len(finished) < 10


def test_decodings_have_names_and_bounds():
    assert [Decoding(t).name for t in (0.0, 1.0, 0.7)] == ["greedy", "sampled", "temperature_0.7"]
    with pytest.raises(InputError, match="-1"):
        Decoding(-1)
