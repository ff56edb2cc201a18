"""A language model's verdict as a reward: through a real endpoint, cached, bounded, never in the way of the run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os

import pytest
from aiohttp import web
from support.episodes.fakes import ask, passages, play, say

from foundation.errors import InputError
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.reward.rewards import find_reward
from r1_searcher.run.run_config import JudgeConfig, RetrieverConfig, RunConfig
from r1_searcher.run.scorers import InProcessReward, scorer_of
from retriever.errors import RetrieverTimeout

REWARD = "judge=1,format_broken=-2,searches=-0.1"
RECIPE = dataclasses.replace(find_recipe("tiny.stage2"), reward=find_reward(REWARD))


def judged(tmp_path, answers, *episodes, timeout=5.0):
    """Rewards of the episodes under a judge that gives these answers in turn, and how often it was asked."""
    asked = []

    async def chat(request):
        asked.append(await request.json())
        answer = answers[min(len(asked), len(answers)) - 1]
        if answer is None:
            await asyncio.sleep(30)
        if isinstance(answer, int):
            return web.Response(status=answer)
        message = {"role": "assistant", "content": answer}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
        return web.json_response(body)

    async def all_scores():
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        run = RunConfig(str(tmp_path), RECIPE, RetrieverConfig("http://x"), judge=JudgeConfig(url, "m", timeout))
        source = scorer_of(run)
        try:
            return [await source.score(episode) for episode in episodes]
        finally:
            await runner.cleanup()

    return asyncio.run(all_scores()), len(asked)


def good(answer="Paris"):
    return play([ask("q"), say(answer)], passages("p")).trajectory


def test_the_verdict_is_the_reward(tmp_path):
    (right, wrong), asked = judged(tmp_path, ["True", "False"], good("the city of Paris"), good("Rome"))
    assert dict(right.parts) == {"judge": 1.0, "format_broken": 0.0, "searches": pytest.approx(-0.1)}
    assert (right.total, wrong.total, asked) == (pytest.approx(0.9), pytest.approx(-0.1), 2)
    assert right.logs()["judge/unjudged"] == 0.0


def test_equal_answers_are_asked_once_and_verdicts_are_kept(tmp_path):
    _, asked = judged(tmp_path, ["True"], good(), good(), good())
    assert asked == 1
    (file,) = (tmp_path / "verdicts").iterdir()
    assert json.loads(file.read_text())["verdict"]["correct"] is True


def test_a_resumed_run_asks_nothing_again(tmp_path, monkeypatch):
    """Its processes have other numbers."""
    rewards, asked = judged(tmp_path, ["True", "False"], good("the city of Paris"), good("Rome"))
    assert asked == 2
    monkeypatch.setattr(os, "getpid", lambda: 1)
    again, asked = judged(tmp_path, ["no idea"], good("the city of Paris"), good("Rome"), good("Oslo"))
    assert asked == 1 and [result.total for result in again[:2]] == [result.total for result in rewards]
    assert len(list((tmp_path / "verdicts").iterdir())) == 2, "each process appends to its own file"


def test_while_the_judge_is_down_exact_match_stands_in_and_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("foundation.retry.RetryPolicy.wait", lambda *_: 0.01)
    (right, wrong, hedged), _ = judged(tmp_path, [500], good("Paris"), good("Rome"), good("Rome or Paris"))
    assert (right.parts["judge"], wrong.parts["judge"], hedged.parts["judge"]) == (1.0, 0.0, 0.0)
    assert right.logs()["judge/unjudged"] == wrong.logs()["judge/unjudged"] == 1.0


@pytest.mark.parametrize("answer", ["no idea", 400])
def test_an_answer_that_the_judge_cannot_take_is_worth_nothing(tmp_path, answer):
    (right,), _ = judged(tmp_path, [answer], good("Paris"))
    assert right.parts["judge"] == 0.0 and right.logs()["judge/unjudged"] == 1.0


@pytest.mark.parametrize("joint", [" ", "/", "·"])
def test_a_list_of_candidates_is_wrong_without_being_asked_about(tmp_path, joint):
    """3,000 of them overflow a judge's context, and cover the gold."""
    (result,), asked = judged(tmp_path, [400], good(joint.join([*(f"c{n}" for n in range(300)), "Paris"])))
    assert (result.parts["judge"], asked) == (0.0, 0)


def test_no_answer_and_a_failed_search_are_not_asked_about(tmp_path):
    silent = play(["nothing"]).trajectory
    failed = play([ask("q")], RetrieverTimeout("slow")).trajectory
    (first, second), asked = judged(tmp_path, ["True"], silent, failed)
    assert (first.parts["judge"], second.total, asked) == (0.0, 0.0, 0)


def test_a_reward_that_asks_nobody_is_refused():
    with pytest.raises(InputError, match="--judge-url"):
        InProcessReward(RECIPE)


def test_every_kind_of_episode_logs_the_same_keys(tmp_path):
    episodes = [good(), play(["nothing"]).trajectory, play([ask("q")], RetrieverTimeout("slow")).trajectory]
    results, _ = judged(tmp_path, ["True"], *episodes)
    assert len({frozenset(result.logs()) for result in results}) == 1
