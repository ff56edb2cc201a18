"""The service under load: many at once, people who go, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.episodes.asked_agents import CHAT, SAID, FakePolicies, Reply, agent_of, call, load_of, one

from r1_searcher.agent_service.service import ServiceLimits


class TestLoad:
    """Many at once, people who go, and the end of the service."""

    async def _asked(self, app: Any, count: int, **options: Any) -> list[asyncio.Task[Reply]]:
        tasks = [asyncio.create_task(call(app, "POST", CHAT, SAID, **options)) for _ in range(count)]
        await asyncio.sleep(0.01)
        return tasks

    def test_so_many_at_once_so_many_in_line_and_the_rest_is_refused(self, serve):
        async def use(app, service):
            tasks = await self._asked(app, 5)
            counted = (await call(app, "GET", "/metrics")).body.decode()
            return [(await task).status for task in tasks], counted

        limits = ServiceLimits(at_once=1, waiting=2)
        statuses, counted = serve(use, agent_of(FakePolicies(pause_s=0.001)), limits=limits)
        assert sorted(statuses) == [200, 200, 200, 503, 503]
        assert "agent_running_episodes 1.0" in counted and "agent_waiting_requests 2.0" in counted
        assert 'agent_engine_requests{model="model1"} 1.0' in counted

    def test_who_waits_hears_the_place_in_the_line(self, serve):
        async def use(app, service):
            await self._asked(app, 2)
            return await call(app, "POST", "/episodes", {"question": "Where?"})

        limits = ServiceLimits(at_once=1, waiting=2)
        reply = serve(use, agent_of(FakePolicies(pause_s=0.001)), limits=limits)
        positions = [event["position"] for event in reply.events if event["type"] == "queued"]
        assert positions == [2, 1] and reply.events[-1]["answer"] == "Paris"

    @pytest.mark.parametrize("stream", [False, True])
    def test_who_hangs_up_gives_everything_back(self, serve, stream):
        policies = FakePolicies(pause_s=3600)

        async def use(app, service):
            gone = asyncio.Event()
            body = SAID | {"stream": stream}
            tasks = [asyncio.create_task(call(app, "POST", CHAT, body, hangs_up=gone)) for _ in range(4)]
            await asyncio.sleep(0.01)
            before = policies.unfinished
            gone.set()
            await asyncio.gather(*tasks)
            return before, policies.unfinished, *load_of(service)

        assert serve(use, agent_of(policies), limits=ServiceLimits(at_once=2)) == (2, 0, 0, 0)

    def test_an_episode_that_lasts_too_long_is_ended(self, serve):
        policies = FakePolicies(pause_s=3600)
        reply = serve(one("POST", CHAT, SAID), agent_of(policies), limits=ServiceLimits(episode_s=0.02))
        assert (reply.status, reply.json["error"]["code"], policies.unfinished) == (503, "timeout", 0)

    def test_a_stop_sends_the_line_away_and_lets_the_others_finish(self, serve):
        async def use(app, service):
            tasks = await self._asked(app, 2)
            service.stop()
            late = await call(app, "POST", CHAT, SAID)
            return [await task for task in tasks], late, (await call(app, "GET", "/health")).status

        limits = ServiceLimits(at_once=1, drain_s=60)
        (first, second), late, health = serve(use, agent_of(FakePolicies(pause_s=0.001)), limits=limits)
        assert first.status == 200
        assert [reply.json["error"]["code"] for reply in (second, late)] == ["stopping", "stopping"]
        assert health == 503

    def test_a_stop_does_not_wait_for_ever(self, serve):
        async def use(app, service):
            (task,) = await self._asked(app, 1)
            service.stop()
            return await task

        reply = serve(use, agent_of(FakePolicies(pause_s=3600)), limits=ServiceLimits(drain_s=0.02))
        assert reply.json["error"]["code"] == "stopping"
