"""The searching agent's service under abuse: many askers, clients that hang up, a search that dies and comes back.

    python -m benchmarks.agent_soak --model data_prep/tiny/model --recipe tiny.stage2 --world DIR [--seconds 300]

Starts the service and a search server as processes. The askers ask held-out questions in every way there is; a tenth
of them, drawn anew each time, hang up midway. Every minute the search server is killed, and started again after
ten seconds. At the end nothing may be lost: each request was answered, refused with a typed error, or given up by its
own client; and the engine holds nothing any more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from foundation.cli import OneLineParser, above_zero, positive, run_command
from foundation.errors import RunAborted
from foundation.files import write_json
from foundation.process import bind
from r1_searcher.episode.question import read_rows

CHAT = "/v1/chat/completions"
HANGS_UP = 0.1
RETRIEVER_LIVES_S, RETRIEVER_RESTS_S = 50.0, 10.0
SAMPLE_S = 5.0
TYPED = {"overloaded", "timeout", "retriever_unavailable", "engine_unavailable", "stopping"}


@dataclass
class Outcome:
    """What became of all requests."""

    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """Requests that were neither answered nor refused with a typed error."""
    megabytes: list[float] = field(default_factory=list)
    """Memory of the service, its engine included, every few seconds."""
    idle: dict[str, float] = field(default_factory=dict)
    """What the service says of itself once nobody asks any more."""


@dataclass
class SoakedServer:
    """A process that says when it is ready, and can be killed and started again."""

    command: Sequence[str]
    folder: Path
    name: str
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> str:
        """Its address, once it answers. Raises `RunAborted` where it ends before."""
        ready = self.folder / f"{self.name}.url"
        ready.unlink(missing_ok=True)
        log = (self.folder / f"{self.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen([*self.command, "--ready-file", str(ready)], stdout=log, stderr=log)
        while not ready.exists():
            if self.process.poll() is not None:
                said = (self.folder / f"{self.name}.log").read_text(errors="replace")[-2000:]
                raise RunAborted(f"the {self.name} did not start: {said}")
            await asyncio.sleep(0.1)
        return ready.read_text().strip()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait()

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


async def soak(
    service: SoakedServer, retriever: SoakedServer, questions: Sequence[str], seconds: float, askers: int
) -> Outcome:
    """Abuse the service for so long."""
    outcome = Outcome()
    await retriever.start()
    url = await service.start()
    assert service.process is not None
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=askers)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        ends = time.monotonic() + seconds
        chaos = [asyncio.create_task(_die_and_return(retriever)), asyncio.create_task(_weigh(service, outcome))]
        work = [_ask_until(ends, client, questions, random.Random(seed), outcome) for seed in range(askers)]
        await asyncio.gather(*work)
        for task in chaos:
            task.cancel()
        await asyncio.gather(*chaos, return_exceptions=True)
        await asyncio.sleep(2)
        outcome.idle = _gauges((await client.get("/metrics")).text)
    return outcome


async def _ask_until(
    ends: float, client: httpx.AsyncClient, questions: Sequence[str], draw: random.Random, outcome: Outcome
) -> None:
    while time.monotonic() < ends:
        way = draw.choice((_whole, _streamed, _watched))
        asking = asyncio.create_task(way(client, draw.choice(questions)))
        if draw.random() < HANGS_UP:
            await asyncio.sleep(draw.random())
            if not asking.done():
                asking.cancel()
        try:
            ended = await asking
        except asyncio.CancelledError:
            ended = "hung up"
        except httpx.HTTPError as error:
            ended = f"lost: {error!r}"
        outcome.counts[ended.partition(":")[0]] += 1
        if ended.startswith("lost"):
            outcome.lost.append(ended)
        if ended == "overloaded":
            await asyncio.sleep(1)


async def _whole(client: httpx.AsyncClient, question: str) -> str:
    reply = await client.post(CHAT, json={"messages": [{"role": "user", "content": question}]})
    if reply.status_code == 200:
        return "answered"
    return _typed(reply.json().get("error", {}), reply.status_code)


async def _streamed(client: httpx.AsyncClient, question: str) -> str:
    body = {"messages": [{"role": "user", "content": question}], "stream": True}
    async with client.stream("POST", CHAT, json=body) as reply:
        events = [line[6:] async for line in reply.aiter_lines() if line.startswith("data: ")]
        if reply.status_code != 200:
            return "overloaded" if reply.status_code == 503 else f"lost: status {reply.status_code}"
    if events and events[-1] == "[DONE]":
        return "answered"
    return _typed(json.loads(events[-1]).get("error", {}) if events else {}, reply.status_code)


async def _watched(client: httpx.AsyncClient, question: str) -> str:
    async with client.stream("POST", "/episodes", json={"question": question}) as reply:
        events = [line[6:] async for line in reply.aiter_lines() if line.startswith("data: ")]
        if reply.status_code != 200:
            return "overloaded" if reply.status_code == 503 else f"lost: status {reply.status_code}"
    last: Mapping[str, Any] = json.loads(events[-1]) if events else {}
    if last.get("type") == "end":
        return "retriever_unavailable" if last["stop_reason"] == "retriever_error" else "answered"
    return _typed(last, reply.status_code)


def _typed(error: Mapping[str, Any], status: int) -> str:
    code = str(error.get("code"))
    return code if code in TYPED else f"lost: status {status}, {error}"


async def _die_and_return(retriever: SoakedServer) -> None:
    while True:
        await asyncio.sleep(RETRIEVER_LIVES_S)
        retriever.stop(signal.SIGKILL)
        await asyncio.sleep(RETRIEVER_RESTS_S)
        await retriever.start()


async def _weigh(service: SoakedServer, outcome: Outcome) -> None:
    assert service.process is not None
    while True:
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        outcome.megabytes.append(int(found[1]) / 1024)
        await asyncio.sleep(SAMPLE_S)


def _gauges(text: str) -> dict[str, float]:
    names = ("agent_running_episodes", "agent_waiting_requests", "agent_engine_requests")
    lines = [line for line in text.splitlines() if line.startswith(names)]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 1 where a request was lost, a place was not given back, or the end was not clean."""
    parser = OneLineParser(prog="benchmarks.agent_soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe")
    parser.add_argument("--world", required=True, type=Path, help="folder of data_prep.tiny_world")
    parser.add_argument("--seconds", type=above_zero, default=300.0)
    parser.add_argument("--askers", type=positive, default=64)
    parser.add_argument("--at-once", type=positive, default=16, help="episodes at a time")
    parser.add_argument("--waiting", type=positive, default=32, help="requests that may wait")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(argv)
    return run_command("benchmarks.agent_soak", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        with bind("127.0.0.1", 0) as taken:  # the same port each time it comes back
            port = str(taken.getsockname()[1])
        parent = ("--exit-with-parent", str(os.getpid()))
        corpus = ("--corpus", str(options.world / "corpus.jsonl"), "--port", port)
        retriever = SoakedServer((sys.executable, "-m", "retriever.server", *corpus, *parent), folder, "retriever")
        command = [sys.executable, "-m", "r1_searcher.serve", "--agent", "--model", options.model]
        command += ["--search", f"http://127.0.0.1:{port}", "--store", str(folder / "store"), *parent]
        command += ["--at-once", str(options.at_once), "--waiting", str(options.waiting)]
        command += ["--recipe", options.recipe] if options.recipe else []
        service = SoakedServer(command, folder, "service")
        for server in (retriever, service):
            stack.callback(server.end)
        questions = [row.question for row in read_rows(options.world / "heldout.jsonl")]
        outcome = asyncio.run(soak(service, retriever, questions, options.seconds, options.askers))
        status = service.stop()
    memory = outcome.megabytes
    figures = {
        "outcomes": dict(outcome.counts.most_common()),
        "lost": outcome.lost[:20],
        "megabytes": {"after 30 s": memory[min(6, len(memory) - 1)], "at the end": memory[-1], "most": max(memory)},
        "idle": outcome.idle,
        "status": status,
    }
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        write_json(options.json, figures)
    return int(bool(outcome.lost or status or any(outcome.idle.values()) or len(outcome.idle) < 3))


if __name__ == "__main__":
    sys.exit(main())
