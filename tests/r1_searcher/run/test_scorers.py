"""The same reward from this process, from a file and from a server; anything unusable ends the run."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web
from support.episodes.fakes import ask, passages, play, say

from foundation.errors import RunAborted
from foundation.retry import RetryPolicy
from r1_searcher import reward_func
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run import scorers
from r1_searcher.run.reward_batch import score_batch
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.run.scorers import FileReward, HttpReward, InProcessReward
from retriever.errors import RetrieverTimeout

RECIPE = find_recipe("tiny.stage2")
TWO_TRIES = RetryPolicy(2, backoff=0.01)
EPISODES = {
    "good": lambda: play([ask("q"), say("Paris")], passages("p")),
    "bad format": lambda: play([ask("q"), "<think>" + say("a Paris tower 東")], passages("p")),
    "failed": lambda: play([ask("q")], RetrieverTimeout("slow")),
}


def run_with(reward_url):
    return RunConfig(run_dir="", recipe=RECIPE, retriever=RetrieverConfig("http://x"), reward_url=reward_url)


def scored(source, trajectory):
    return asyncio.run(source.score(trajectory))


def test_which_source_an_address_means(tmp_path):
    path = tmp_path / "r.py"
    path.write_text("def reward_func(queries, prompts, labels): ...")
    assert isinstance(scorers.scorer_of(run_with("")), InProcessReward)
    assert isinstance(scorers.scorer_of(run_with(str(path))), FileReward)
    assert isinstance(scorers.scorer_of(run_with("http://x/get_reward")), HttpReward)


@pytest.mark.parametrize("name", EPISODES)
def test_our_file_gives_the_reward_of_this_process(name, monkeypatch):
    monkeypatch.setenv("R1_SEARCHER_REWARD", RECIPE.reward.name)
    monkeypatch.setenv("R1_SEARCHER_PROTOCOL", RECIPE.protocol.name)
    trajectory = EPISODES[name]().trajectory
    expected = scored(InProcessReward(RECIPE), trajectory)
    assert scored(FileReward(reward_func.__file__), trajectory) == expected


def test_a_users_file_is_called_with_lists_and_may_give_tensors(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "class Tensor:\n"
        "    def __init__(self, v): self.v = v\n"
        "    def item(self): return self.v\n"
        "seen = []\n"
        "def reward_func(queries, prompts, labels):\n"
        "    assert queries[0].startswith(prompts[0]) and len(queries) == 1 and '\"spans\"' in labels[0]\n"
        "    return {'rewards': Tensor(0.25), 'scores': Tensor(1), 'extra_logs': {'reward/mine': [0.25]}}\n"
    )
    result = scored(FileReward(str(path)), EPISODES["good"]().trajectory)
    assert (result.total, result.parts, result.rules) == (0.25, {"mine": 0.25}, {})


def test_a_file_that_raises_is_a_bug_and_raises(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def reward_func(queries, prompts, labels): raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        scored(FileReward(str(path)), EPISODES["good"]().trajectory)


@contextlib.asynccontextmanager
async def server(answer):
    """A real HTTP server; `answer(body)` gives (status, text of the reply)."""
    bodies: list[dict] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        status, text = answer(bodies[-1], len(bodies))
        return web.Response(status=status, text=text, content_type="application/json")

    app = web.Application()
    app.router.add_post("/get_reward", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/get_reward", bodies
    finally:
        await runner.cleanup()


def ask_server(answer, trajectory):
    async def run():
        async with server(answer) as (url, bodies):
            source = HttpReward(url, TWO_TRIES)
            try:
                return await source.score(trajectory), bodies
            finally:
                await source.close()

    return asyncio.run(run())


def ours(body, _count):
    spec = RECIPE.reward
    return 200, json.dumps(score_batch(body["query"], body["prompts"], body["labels"], spec, RECIPE.protocol))


@pytest.mark.parametrize("name", EPISODES)
def test_a_server_gives_the_reward_of_this_process(name):
    trajectory = EPISODES[name]().trajectory
    result, (body,) = ask_server(ours, trajectory)
    assert result == scored(InProcessReward(RECIPE), trajectory)
    assert body["query"] == [body["prompts"][0] + trajectory.completion]
    label = json.loads(body["labels"][0])
    assert label == json.loads(json.dumps(to_mapping(trajectory, with_ids=False)))


def test_a_server_that_fails_once_is_asked_again():
    def flaky(body, count):
        return (503, "{}") if count == 1 else ours(body, count)

    result, bodies = ask_server(flaky, EPISODES["good"]().trajectory)
    assert result.total == 1.0 and len(bodies) == 2


@pytest.mark.parametrize(
    "reply",
    [
        (500, "{}"),
        (200, "not json"),
        (200, "{}"),
        (200, '{"rewards": "many"}'),
        (200, "[]"),
        (200, '{"rewards": []}'),
        (200, '{"rewards": null}'),
        (200, '{"rewards": NaN}'),
    ],
    ids=lambda reply: str(reply),
)
def test_a_server_without_usable_answers_ends_the_run(reply):
    with pytest.raises(RunAborted, match="gave no usable answer in 2 tries"):
        ask_server(lambda body, count: reply, EPISODES["good"]().trajectory)


def test_a_server_that_is_not_there_ends_the_run_in_one_line():
    async def run():
        source = HttpReward("http://127.0.0.1:9/get_reward", TWO_TRIES)
        try:
            await source.score(EPISODES_GOOD)
        finally:
            await source.close()

    EPISODES_GOOD = EPISODES["good"]().trajectory
    with pytest.raises(RunAborted) as caught:
        asyncio.run(run())
    assert "\n" not in str(caught.value) and "127.0.0.1:9" in str(caught.value)
