"""Questions that cannot be searched: handed on masked, played again, counted."""

from __future__ import annotations

import asyncio

import pytest
from support.episodes.executions import EPISODES, RECIPE, FakeEngine, HfTokenizer, execute, logged, sampling
from support.episodes.fakes import EOS, ask, say, turn_that_answers, turn_that_asks

from data_prep.tiny.dialects import TOOL_TEMPLATE
from foundation.errors import RunAborted
from r1_searcher.recipe.protocols import DEEP_RESEARCHER
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.outage import ATTEMPTS


def poisoned(make_executor, service, recipe=RECIPE, **changes):
    """One question whose search always fails, beside good ones that keep coming."""
    executor = make_executor(recipe, **changes)
    service.index.broken = {"poison"}

    async def step():
        good = asyncio.create_task(stream(executor))
        response = await execute(executor, [ask("poison")], "bad")
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
        (fine,) = await asyncio.gather(execute(executor, EPISODES["answered"], "good"))
        await executor.retriever.close()
        return response, fine

    return asyncio.run(step())


async def stream(executor):
    while True:
        await execute(executor, EPISODES["answered"], "good")


def test_a_question_that_cannot_be_searched_is_handed_on_masked(make_executor, service, tmp_path):
    response, fine = poisoned(make_executor, service)
    assert response["action_ranges"] == [] and response["reward"] == response["scores"] == 0.0
    assert response["extra_logs"]["retrieval/failed_attempts"] == ATTEMPTS
    assert service.index.times >= ATTEMPTS, "the server may search a failed batch one by one"
    assert response["extra_logs"]["stop/retriever_error"] == 1.0
    assert tuple(response["extra_logs"]) == tuple(fine["extra_logs"])
    attempts = [line["attempt"] for line in logged(tmp_path) if line["row"]["id"] == "row bad"]
    assert attempts == list(range(ATTEMPTS))


def test_a_failed_sample_is_handed_the_mean_of_its_siblings(make_executor, service, tmp_path):
    executor = make_executor(samples_per_question=3)
    service.index.broken = {"poison"}

    async def question():
        params = sampling()  # one object for all samples of a question, as the host passes it
        scripts = [ask("poison")], EPISODES["answered"], [ask("tower"), say("London")]
        found = await asyncio.gather(*(execute(executor, script, params=params) for script in scripts))
        await executor.retriever.close()
        return found

    failed, right, wrong = asyncio.run(question())
    assert (right["reward"], wrong["reward"]) == (1.0, 0.0)
    assert failed["reward"] == failed["scores"] == 0.5 and failed["action_ranges"] == []
    assert len(executor.groups) == 0
    (line,) = [line for line in logged(tmp_path) if line["attempt"] == ATTEMPTS - 1]
    assert line["reward"]["total"] == 0.0, "the log has the episode's own reward"


def test_a_search_that_fails_once_is_played_again_and_counted(make_executor, service, tmp_path):
    executor = make_executor()
    service.index.broken = {"poison"}

    class Mends(FakeEngine):
        async def generate(self, ids, params):
            if service.index.times:
                service.index.broken = set()
            return await super().generate(ids, params)

    async def once():
        response = await execute(executor, [], engine=Mends([ask("poison tower"), say("Paris")]))
        await executor.retriever.close()
        return response

    response = asyncio.run(once())
    assert response["action_ranges"] and response["reward"] == 1.0
    assert response["extra_logs"]["retrieval/failed_attempts"] == 1.0
    assert [line["stop_reason"] for line in logged(tmp_path)] == ["retriever_error", "answered"]
    assert [line["attempt"] for line in logged(tmp_path)] == [0, 1]


def test_a_failed_episode_logs_the_keys_of_a_foreign_reward(make_executor, service, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def reward_func(queries, prompts, labels):\n"
        "    return {'rewards': 0.5, 'scores': 0.5, 'extra_logs': {'reward/mine': 0.5}}\n"
    )
    response, fine = poisoned(make_executor, service, reward_url=str(path))
    assert fine["reward"] == 0.5
    assert set(response["extra_logs"]) == set(fine["extra_logs"]), "the host batches by the first sample's keys"


def researched(executor, address: str):
    """Eight questions that search, which works, and then read a page."""
    turns = [
        turn_that_asks(DEEP_RESEARCHER, "tower"),
        turn_that_asks(DEEP_RESEARCHER, address, tool=1),
        turn_that_answers(DEEP_RESEARCHER, "Paris"),
    ]
    tokenizer = HfTokenizer(DEEP_RESEARCHER, TOOL_TEMPLATE.replace("eos_token", f"'{EOS}'"))

    async def all_at_once():
        episodes = (execute(executor, turns, n, tokenizer=tokenizer) for n in range(8))
        try:
            return await asyncio.gather(*episodes, return_exceptions=True)
        finally:
            for source in (executor.retriever, *executor.tools.values()):
                await source.close()

    return asyncio.run(all_at_once())


def test_pages_are_read_by_a_source_of_their_own(make_executor, service):
    responses = researched(make_executor(find_recipe("deep_researcher"), browse=service.url), "river")
    assert [response["extra_logs"]["stop/answered"] for response in responses] == [1.0] * 8


@pytest.mark.parametrize(
    ("browse", "says"),
    [("http://127.0.0.1:9", "has been down"), ("", "calls itself healthy, but a search fails in every episode")],
    ids=["down", "healthy but useless"],
)
def test_a_source_of_pages_that_fails_ends_the_run_though_searches_work(make_executor, service, browse, says):
    executor = make_executor(find_recipe("deep_researcher"), browse=browse or service.url, outage_seconds=0.5)
    service.index.broken = {"poison"}
    for result in researched(executor, "poison"):
        assert isinstance(result, RunAborted) and says in str(result)
