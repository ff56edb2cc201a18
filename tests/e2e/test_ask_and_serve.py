"""The tiny model asked in every way there is: one answer to one greedy question, and an engine that is empty again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from mcp import Client

from r1_searcher.episode.question import read_rows

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data_prep" / "tiny" / "model"

WATCHED = """
import asyncio, contextlib, dataclasses, json, sys
from pathlib import Path
from r1_searcher.episode.question import read_rows
from r1_searcher.episode.watching import ActionEnded, ActionGrew
from r1_searcher.inference.agent import open_agent
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference import engine
from r1_searcher.inference.policies import EngineModel
from r1_searcher.inference.sources import SearchSources
from r1_searcher.recipe.recipe import find_recipe

model, world, log = sys.argv[1:]

def facts(trajectory):
    return [trajectory.ids, [dataclasses.astuple(span) for span in trajectory.spans], trajectory.answer]

async def play(console):
    played = EngineModel(model)
    opened = open_agent(played, find_recipe("tiny.stage2"), SearchSources(f"corpus:{world}/corpus.jsonl"),
                        played.load_tokenizer(), console)
    found = {"same": 0, "differ": [], "pieces": 0, "texts": True}
    async with opened as agent:
        for row in read_rows(Path(world) / "heldout.jsonl")[:12]:
            for decoding in (Decoding(), Decoding(1.0)):
                events = []
                plain = await agent.ask(row, decoding)
                watched = await agent.ask(row, decoding, events.append)
                found["same"] += facts(plain) == facts(watched)
                grown = [event.text for event in events if isinstance(event, ActionGrew)]
                ended = [event.text for event in events if isinstance(event, ActionEnded)]
                found["pieces"] += len(grown) > len(ended)
                found["texts"] &= "".join(grown) == "".join(ended)
        row = agent.row_of("What is the home of the author of the book Tatit Zodiz ?")
        asking = [asyncio.create_task(agent.ask(row, Decoding(1.0, seed=seed), lambda e: None)) for seed in range(24)]
        await asyncio.sleep(0.05)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        found["answer"] = (await agent.ask(row, Decoding())).answer
        scheduler = loaded[0].engine_core.engine_core.scheduler
        found["left"] = [agent.policies.unfinished, scheduler.get_num_unfinished_requests()]
    return found

loaded = []
load_core = engine.load_core
engine.load_core = lambda settings: loaded.append(load_core(settings)) or loaded[0]
with engine.console_apart(Path(log)) as console:
    print(json.dumps(asyncio.run(play(console))), file=console)
"""


@pytest.fixture(scope="module")
def question(world) -> str:
    return read_rows(world / "heldout.jsonl")[0].question


@pytest.fixture(scope="module")
def service(world, tmp_path_factory) -> Iterator[str]:
    """The service as a process; SIGTERM ends it with status 0."""
    folder = tmp_path_factory.mktemp("service")
    ready, log = folder / "url", folder / "log"
    command = [sys.executable, "-m", "r1_searcher.serve", "--agent", "--model", f"tiny={MODEL}"]
    command += ["--recipe", "tiny.stage2", "--search", f"corpus:{world / 'corpus.jsonl'}", "--store", folder / "store"]
    command += ["--ready-file", ready, "--exit-with-parent", os.getpid()]
    with log.open("wb") as output:
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 400
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield ready.read_text().strip()
        process.terminate()
        assert process.wait(60) == 0, log.read_text()[-3000:]
        assert not ready.exists()
    finally:
        process.kill()
        process.wait()


def test_a_watched_episode_is_the_same_to_the_token_and_the_engine_is_empty_after_cancelling(world, tmp_path):
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, MODEL, world, log], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr + log.read_text()[-3000:]
    found = json.loads(done.stderr.splitlines()[-1])
    assert found["same"] == 24 and found["texts"] and found["pieces"] >= 20
    assert found["left"] == [0, 0] and found["answer"]


def test_one_answer_in_every_way(service, question, world):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": question}]}
    curl = ["curl", "-sf", f"{service}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", "@-"]
    curled = json.loads(
        subprocess.run(curl, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    )
    client = openai.OpenAI(base_url=f"{service}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["tiny"]
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    with httpx.stream("POST", f"{service}/episodes", json={"question": question}, timeout=60) as reply:
        *_, end = (json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: "))
    tool = asyncio.run(asked_over_mcp(f"{service}/mcp", question))
    command = [sys.executable, "-m", "r1_searcher.ask", "--model", MODEL, "--recipe", "tiny.stage2"]
    command += ["--search", f"corpus:{world / 'corpus.jsonl'}", "--json", question]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    answers = {
        "ask": json.loads(done.stdout)["answer"],
        "curl": curled["choices"][0]["message"]["content"],
        "openai": whole.choices[0].message.content,
        "openai, streamed": "".join(delta.content or "" for delta in deltas),
        "watched": end["answer"],
        "MCP": tool["answer"],
    }
    assert len(set(answers.values())) == 1 and answers["ask"], answers
    message = whole.choices[0].message
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == message.reasoning_content
    assert chunks[-1].usage == whole.usage and whole.usage.searches == end["n_searches"]
    stored = json.loads(urllib.request.urlopen(f"{service}/episodes/{whole.id}").read())
    assert stored["question"] == question and stored["events"][-1]["answer"] == answers["ask"]


async def asked_over_mcp(url: str, question: str) -> dict[str, Any]:
    async with Client(url) as client:
        return (await client.call_tool("ask", {"question": question})).structured_content


def test_errors_are_those_that_the_library_knows(service):
    client = openai.OpenAI(base_url=f"{service}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.chat.completions.create(model="other", messages=[{"role": "user", "content": "Who?"}])
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Who?"}],
            tools=[{"type": "function", "function": {"name": "f"}}],
        )  # fmt: skip


def test_places_in_the_engine_come_back_from_clients_that_hang_up(service, question):
    for number in range(12):
        body = {"question": question, "temperature": 1.0, "seed": number}
        with httpx.stream("POST", f"{service}/episodes", json=body, timeout=60) as reply:
            next(reply.iter_lines())
    deadline = time.monotonic() + 20
    while True:
        counts = urllib.request.urlopen(f"{service}/metrics").read().decode()
        names = ("agent_engine_requests", "agent_running_episodes", "agent_waiting_requests")
        left = [float(value) for value in re.findall(rf"^(?:{'|'.join(names)})\S* (\S+)$", counts, flags=re.M)]
        if left == [0.0, 0.0, 0.0]:
            break
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
