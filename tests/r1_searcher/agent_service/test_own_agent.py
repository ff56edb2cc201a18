"""A service whose agent is the user's own, and fails: an error that names it, however often, and no empty answer."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from support.episodes.asked_agents import CHAT, SAID, FakePolicies, call
from support.episodes.fakes import tag_tokenizer
from support.episodes.own_agents import InMemory

from r1_searcher.agent_service.app import create_app
from r1_searcher.inference.agent import open_agent
from r1_searcher.inference.sources import SearchSources
from r1_searcher.own_agent.player import FAILURES_IN_A_ROW
from r1_searcher.recipe.recipe import find_recipe


class Model:
    """A model whose turns are scripted."""

    @asynccontextmanager
    async def policies(self, recipe, row, tokenizer, console):
        yield FakePolicies(("Paris",))


async def broken(question, settings):
    raise KeyError("its secret")


def asked(service_of, agent, use):
    """What `use` makes of the service of an agent function."""

    async def run():
        recipe = replace(find_recipe("own_agent"), agent=InMemory("test.py:agent", function=agent))
        opened = open_agent(Model(), recipe, SearchSources(None), tag_tokenizer(), sys.stderr)
        async with opened as ready:
            with service_of(ready) as service:
                return await use(create_app(service), service)

    return asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_agent_is_an_error_and_no_empty_answer(service_of, stream, caplog):
    async def use(app, service):
        return await call(app, "POST", CHAT, SAID | {"stream": stream}), service.metrics.render().decode()

    reply, metrics = asked(service_of, broken, use)
    error = (reply.events[-1] if stream else reply.json)["error"]
    assert (error["code"], error["type"]) == ("agent_failed", "server_error")
    assert reply.status == (200 if stream else 500)
    assert "agent's own code" in error["message"] and "log" in error["message"] and "secret" not in error["message"]
    assert "KeyError: 'its secret'" in caplog.text
    assert 'agent_episodes_total{end="agent_error",model="model1"} 1.0' in metrics


def test_the_model_is_not_blamed_however_often_the_agent_fails(service_of):
    async def use(app, service):
        replies = [await call(app, "POST", CHAT, SAID) for _ in range(FAILURES_IN_A_ROW + 1)]
        return replies, await call(app, "POST", "/episodes", {"question": "Where?"})

    replies, watched = asked(service_of, broken, use)
    assert {reply.json["error"]["code"] for reply in replies} == {"agent_failed"}
    assert (watched.events[-1]["type"], watched.events[-1]["stop_reason"]) == ("end", "agent_error")


def test_an_agent_that_works_is_answered_with(service_of):
    async def works(question, settings):
        return "Paris"

    async def use(app, service):
        return await call(app, "POST", CHAT, SAID)

    reply = asked(service_of, works, use)
    assert (reply.status, reply.json["choices"][0]["message"]["content"]) == (200, "Paris")
