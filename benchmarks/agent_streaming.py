"""What streaming costs: time to the first token and between tokens, through the service and from the engine alone.

    python -m benchmarks.agent_streaming --model data_prep/tiny/model --recipe tiny.stage2 --world DIR [--json FILE]

One caller. Each held-out question is asked of the engine (its first turn, watched token by token) and right after of
the service in the same process, over HTTP by a client in a process of its own: what the machine does meanwhile meets
both alike. Between tokens: the time from a turn's first token to its last, by the tokens between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.cli import OneLineParser, positive, run_command
from foundation.files import write_json
from foundation.process import bind
from r1_searcher.agent_service.app import create_app
from r1_searcher.agent_service.host import AgentHost
from r1_searcher.agent_service.service import AgentService
from r1_searcher.agent_service.store import EpisodeStore
from r1_searcher.episode.policy import StreamingPolicy
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.question import read_rows
from r1_searcher.inference.agent import Agent, open_agent
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.engine import console_apart
from r1_searcher.inference.policies import EngineModel
from r1_searcher.inference.sources import SearchSources
from r1_searcher.recipe.recipe import find_recipe

CLIENT = """
import http.client, json, sys, time
host, path = sys.argv[1:]
for line in sys.stdin:
    connection = http.client.HTTPConnection(host)
    begun = time.perf_counter()
    connection.request("POST", path, line.strip(), {"Content-Type": "application/json"})
    reply, times = connection.getresponse(), []
    while line := reply.readline():
        if line.startswith(b'data: {"type":"action"'):
            times.append(time.perf_counter() - begun)
        elif line.startswith((b'data: {"type":"search"', b'data: {"type":"end"')):
            break
    reply.read()
    connection.close()
    print(json.dumps(times), flush=True)
"""


@dataclass(frozen=True)
class StreamTiming:
    """Medians over the questions, in milliseconds."""

    first_ms: float
    between_ms: float

    @classmethod
    def of(cls, turns: Sequence[Sequence[float]]) -> StreamTiming:
        """`turns`: seconds from the request to each token of a turn."""
        turns = [times for times in turns if len(times) > 1]
        first = statistics.median(times[0] for times in turns)
        between = statistics.median((times[-1] - times[0]) / (len(times) - 1) for times in turns)
        return cls(round(first * 1000, 3), round(between * 1000, 3))


async def measure(agent: Agent, questions: Sequence[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Both, one after the other for each question."""
    store = EpisodeStore(folder, keep=10)
    service = AgentService({"model": agent}, store)
    ready = asyncio.Event()
    server = AgentHost(create_app(service), drain_s=1, ready=ready.set)
    listener = bind("127.0.0.1", 0)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(server.serve([listener]))
    await ready.wait()
    alone: list[list[float]] = []
    served: list[list[float]] = []
    command = (sys.executable, "-c", CLIENT, address, "/episodes")
    client = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    try:
        for number in range(rounds + 1):
            for question in questions:
                first, second = await _engine_alone(agent, question), await _through_http(client, question)
                if number:  # the first round warms up
                    alone.append(first)
                    served.append(second)
    finally:
        client.stdin.close()  # which ends it
        await client.wait()
        server.should_exit = True
        await serving
        store.close()
    engine, http = StreamTiming.of(alone), StreamTiming.of(served)
    more = {
        "first": round(http.first_ms / engine.first_ms - 1, 4),
        "between": round(http.between_ms / engine.between_ms - 1, 4),
    }
    return {"turns": len(alone), "engine": vars(engine), "service": vars(http), "more": more}


async def _engine_alone(agent: Agent, question: str) -> list[float]:
    policy, environment = agent.policies.policy(Decoding()), agent.environment
    assert isinstance(policy, StreamingPolicy)
    prompt = render_prompt(environment.protocol, agent.row_of(question), environment.tokenizer)
    ids, times = environment.tokenizer.encode(prompt), list[float]()
    begun = time.perf_counter()
    limits = environment.limits
    await policy.stream(
        ids,
        stops=environment.protocol.stops,
        max_tokens=min(limits.turn_tokens, limits.max_length - len(ids)),
        told=lambda _: times.append(time.perf_counter() - begun),
    )
    return [*times, time.perf_counter() - begun]


async def _through_http(client: asyncio.subprocess.Process, question: str) -> list[float]:
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(json.dumps({"question": question}).encode() + b"\n")
    times: list[float] = json.loads(await client.stdout.readline())
    return times


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.agent_streaming", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--world", required=True, type=Path, help="folder of data_prep.tiny_world")
    parser.add_argument("--questions", type=positive, default=24)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(argv)
    return run_command("benchmarks.agent_streaming", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    questions = [row.question for row in read_rows(options.world / "heldout.jsonl")][: options.questions]
    model, recipe = EngineModel(options.model), find_recipe(options.recipe)
    services = SearchSources(f"corpus:{options.world / 'corpus.jsonl'}")

    async def play(folder: Path) -> dict[str, Any]:
        with console_apart(folder / "engine.log") as console:
            async with open_agent(model, recipe, services, model.load_tokenizer(), console) as agent:
                return await measure(agent, questions, folder, options.rounds)

    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(play(Path(name)))
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    sys.exit(main())
