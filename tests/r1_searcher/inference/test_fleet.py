"""Several engines as one: who plays which episode, and what happens when one of them is gone."""

from __future__ import annotations

import asyncio
import threading
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
from support.episodes.own_agents import player_of
from support.episodes.tool_agents import here, user

from foundation.errors import InputError, RunAborted
from r1_searcher.episode.policy import Completion, Finish
from r1_searcher.episode.question import QARow
from r1_searcher.host.device import Device
from r1_searcher.inference import fleet
from r1_searcher.inference.engine import EngineSettings

SETTINGS = EngineSettings("model", 64, Device.CPU)


class Core:
    """Answers a request with its number of tokens, `params` steps after it came; knows what it was asked."""

    def __init__(self):
        self.running, self.asked = {}, []

    def add_request(self, name, prompt, params):
        self.running[name] = params
        self.asked.append(prompt["prompt_token_ids"])

    def step(self):
        self.running = {name: left - 1 for name, left in self.running.items()}
        done = [name for name, left in self.running.items() if not left]
        for name in done:
            del self.running[name]
        going = [SimpleNamespace(request_id=name, finished=False, left=left) for name, left in self.running.items()]
        return [*going, *(SimpleNamespace(request_id=name, finished=True) for name in done)]

    def abort_request(self, names):
        for name in names:
            self.running.pop(name, None)


@pytest.fixture
def engines(monkeypatch):
    """Starts engines whose processes are threads."""
    cores = []

    def load(settings):
        if settings.model != "model":
            raise InputError("no such model")
        cores.append(Core())
        return cores[-1]

    def start(settings, gpus):
        ours, theirs = Pipe()

        def serve():
            fleet.serve_engine(theirs, settings, gpus)
            theirs.close()

        threading.Thread(target=serve, daemon=True).start()
        return SimpleNamespace(terminate=lambda: None, join=lambda: None), ours

    monkeypatch.setattr(fleet, "load_core", load)
    monkeypatch.setattr(fleet, "prepare_environment", lambda device: device)
    monkeypatch.setattr(fleet, "start_engine", start)
    return cores


def test_an_episode_stays_with_its_engine_and_all_engines_play(engines):
    async def play():
        found = await fleet.Fleet.start(SETTINGS, 3, [])

        async def episode(number):
            for turn in range(4):
                await found.generate([number] * (turn + 1), 1 + number % 3)

        await asyncio.gather(*(asyncio.create_task(episode(number)) for number in range(9)))
        found.close()

    asyncio.run(play())
    asked = [{ids[0] for ids in core.asked} for core in engines]
    assert sorted(len(core.asked) for core in engines) == [12, 12, 12]
    assert sorted(map(len, asked)) == [3, 3, 3] and set.union(*asked) == set(range(9))


class Played:
    """The fleet as the one policy of all episodes."""

    def __init__(self, found, tokenizer):
        self.found, self.tokenizer = found, tokenizer

    async def generate(self, ids, *, stops, max_tokens):
        await self.found.generate(list(ids), 2)
        return Completion(tuple(self.tokenizer.encode("I see.")), Finish.LENGTH)


def test_an_episode_of_an_agent_of_ones_own_stays_with_its_engine_too(engines):
    """Its turns are asked for by requests, each of which is answered in a task of its own."""

    async def chats(question, settings):
        client, messages = settings.openai(), [user(question)]
        for _ in range(4):
            reply = await client.chat.completions.create(model="policy", messages=messages)
            messages += [reply.choices[0].message.model_dump(exclude_none=True), user("Go on.")]

    async def play():
        found, player, environment = await fleet.Fleet.start(SETTINGS, 3, []), player_of(chats), here()
        policy = Played(found, environment.tokenizer)
        rows = [QARow(f"q{number}", f"Question {number}?", ()) for number in range(9)]
        await asyncio.gather(*(player.play(environment, row, policy) for row in rows))
        await player.close()
        found.close()
        return [[environment.tokenizer.decode(ids) for ids in core.asked] for core in engines]

    asked = asyncio.run(play())
    assert [len(texts) for texts in asked] == [12, 12, 12]
    questions = [{text.split("Question ")[1][0] for text in texts} for texts in asked]
    assert [len(found) for found in questions] == [3, 3, 3] and len(set.union(*questions)) == 9


def test_whoever_stops_waiting_gives_the_place_back_and_the_others_are_told(engines):
    async def play():
        found = await fleet.Fleet.start(SETTINGS, 1, [])
        leaves = asyncio.create_task(found.generate([1], 10**9))
        while not engines[0].running:
            await asyncio.sleep(0.001)
        leaves.cancel()
        seen = []
        await found.generate([2], 3, lambda output: seen.append(output.left))
        await found.generate([3], 1)
        assert seen == [2, 1] and found.unfinished == 0
        assert leaves.cancelled() and engines[0].running == {}
        found.close()

    asyncio.run(play())


def test_an_engine_that_ends_ends_its_episodes(engines):
    async def play():
        found = await fleet.Fleet.start(SETTINGS, 1, [])
        waiting = asyncio.create_task(found.generate([1], -1))  # never answered
        await asyncio.sleep(0.05)
        engines[0].step = lambda: (_ for _ in ()).throw(EOFError)
        with pytest.raises(RunAborted, match="engine's process has ended"):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(play())


def test_a_model_that_cannot_run_is_named(engines):
    with pytest.raises(InputError, match="no such model"):
        asyncio.run(fleet.Fleet.start(EngineSettings("other", 64, Device.CPU), 2, []))


@pytest.mark.parametrize(
    ("gpus", "engines_", "each", "shares"),
    [
        (["0", "1", "2", "3"], 2, 2, ["0,1", "2,3"]),
        (["4", "GPU-1", "6"], 2, 1, ["4", "GPU-1"]),
        ([], 3, 1, ["", "", ""]),
    ],
)
def test_every_engine_has_gpus_of_its_own(gpus, engines_, each, shares):
    assert fleet.shares_of(gpus, engines_, each) == shares


def test_too_few_gpus_are_refused():
    with pytest.raises(InputError, match="3 engines of 2 GPUs need 6, and this machine has 4"):
        fleet.shares_of(["0", "1", "2", "3"], 3, 2)


def test_the_gpus_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setenv(fleet.VISIBLE, "6,7")
    assert fleet.visible_gpus(2) == ["6", "7"]
    monkeypatch.delenv(fleet.VISIBLE)
    assert fleet.visible_gpus(2) == ["0", "1"]
