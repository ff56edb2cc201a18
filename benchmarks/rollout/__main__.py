"""How close a rollout runs to the engine's limit, and how far ahead of the published loops.

`python -m benchmarks.rollout [--preset cpu|gpu] [--json FILE] [--chart FILE]`

On one real engine, in one run, on the same token work (turns and lengths of published trajectories):

(a) the limit, an oracle: each episode's next turn is submitted the moment the last one ends, documents already
    tokenised, no retrieval, no parsing, no reward, no log;
(b) our rollout: the training loop's episode, reward, metrics and episode log, with a retriever that answers after 0, 50
    or 500 ms, or after a heavy-tailed time (Pareto, median 100 ms, at most 10 s);
(c) lock-step rounds, as R1-Searcher plays them: all generate, all wait for the slowest, one batched search for all,
    and each round prefills from nothing;
(d) generate, then cut, as Search-R1 plays: the same, and each turn samples its 500 tokens, of which the action is kept.

Both baselines get token ids, which their systems do not have. `lockstep_cached` is (c) with the prefix cache, too:
what it loses is the schedule's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from benchmarks.rollout.report import Pass, print_report, save_chart, summarize
from benchmarks.rollout.scripted_engine import (
    SIZES,
    Engine,
    ScriptedRetriever,
    ScriptReader,
    TimedTurns,
    make_model,
    turn_params,
)
from benchmarks.rollout.stopwatch import Stopwatch
from benchmarks.rollout.workload import EpisodeScript, draw_scripts
from foundation.cli import OneLineParser, run_command
from foundation.files import write_json
from r1_searcher.episode.documents import Found
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.host.device import Device
from r1_searcher.inference.engine import console_apart, prepare_environment
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.reward.rewards import find_reward, score
from r1_searcher.run.episode_log import EpisodeLog
from r1_searcher.run.episode_metrics import episode_metrics
from r1_searcher.run.episode_record import EpisodeRecord

Latency = Callable[[str, int], float]
CUT_TOKENS = 500
"""New tokens of a turn in Search-R1."""
TINY_BASE = Path(__file__).parents[2] / "data_prep" / "tiny" / "model"


def constant(seconds: float) -> Latency:
    """The same latency for every search."""
    return lambda episode, search: seconds


def heavy_tail(episode: str, search: int) -> float:
    """Pareto with shape 1.2, median 100 ms, at most 10 s; the same for the same search in every pass."""
    share = Random(f"{episode} {search}").random()
    return min(10.0, 0.1 * 2 ** (-1 / 1.2) * (1 - share) ** (-1 / 1.2))


LATENCIES: dict[str, Latency] = {
    "0ms": constant(0.0),
    "50ms": constant(0.05),
    "500ms": constant(0.5),
    "heavy_tail": heavy_tail,
}


@dataclass
class Bench:
    """The engine and the work."""

    engine: Engine
    scripts: Sequence[EpisodeScript]
    environment: Environment
    scale: float
    concurrency: int
    our_seconds: float = 0.0
    """Of the pass under way."""

    async def limit(self, latency: str) -> float:
        """(a)."""
        prepared = [self._prepared(script) for script in self.scripts]

        async def episode(script: EpisodeScript, ids: list[int], blocks: list[list[int]]) -> None:
            known = 0
            for turn, block in zip(script.turns, [*blocks, []], strict=True):
                final = await self.engine.generate(ids, turn_params(turn.tokens), known)
                ids = ids + list(final.outputs[0].token_ids)
                known = len(ids)
                ids = ids + block

        await self._all(lambda place: episode(self.scripts[place], *prepared[place]))
        return 0.0

    async def ours(self, latency: str) -> float:
        """(b)."""
        retriever = ScriptedRetriever(self.scripts, LATENCIES[latency])
        env = self.environment
        assert isinstance(env.tokenizer, ScriptReader)
        reader = env.tokenizer
        played = Environment(env.protocol, env.limits, retriever, reader)
        reward = find_reward("r1_searcher.stage2")
        ours, theirs = Stopwatch(), Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            log = EpisodeLog(Path(folder) / "episodes.jsonl")

            async def episode(place: int) -> None:
                script = self.scripts[place]
                policy = TimedTurns(self.engine, script, reader, env.protocol, theirs)
                trajectory = await run_episode(played, script.row, policy)
                result = score(reward, trajectory, env.protocol)
                episode_metrics(trajectory, result)
                log.write(EpisodeRecord(trajectory, result))

            await self._all(lambda place: ours.time(episode(place)))
            log.close()
        self.our_seconds = ours.seconds - theirs.seconds
        return retriever.waited

    async def lockstep(self, latency: str, tokens: int | None = None, *, cached: bool = False) -> float:
        """(c); with `tokens` new tokens in every turn, of which the action is kept, (d).

        `cached` keeps the prefixes of the rounds before.
        """
        state = {place: self._prepared(script) for place, script in enumerate(self.scripts)}
        known = dict.fromkeys(state, 0)
        waited = 0.0
        for number in range(max(len(script.turns) for script in self.scripts)):
            going = [place for place in state if number < len(self.scripts[place].turns)]
            slowest = 0.0

            async def turn(place: int, number: int = number) -> None:
                ids, blocks = state[place]
                length = self.scripts[place].turns[number].tokens
                final = await self.engine.generate(ids, turn_params(max(tokens or 0, length)), known[place])
                ids = ids + list(final.outputs[0].token_ids)[:length]
                known[place] = len(ids)
                state[place] = (ids + (blocks[number] if number < len(blocks) else []), blocks)

            await self._all(turn, going)
            for place in going:
                if self.scripts[place].turns[number].document_tokens is not None:
                    slowest = max(slowest, LATENCIES[latency](self.scripts[place].row.id, number))
            await asyncio.sleep(slowest)
            if not cached:
                await self.engine.forget()
            waited += slowest * len(going)
        return waited

    async def lockstep_cached(self, latency: str) -> float:
        """(c) with the prefix cache."""
        return await self.lockstep(latency, cached=True)

    async def cut(self, latency: str) -> float:
        """(d)."""
        return await self.lockstep(latency, tokens=round(CUT_TOKENS * self.scale))

    async def _all(self, play: Callable[[int], Awaitable[None]], places: Sequence[int] | None = None) -> None:
        slots = asyncio.Semaphore(self.concurrency)

        async def one(place: int) -> None:
            async with slots:
                await play(place)

        await asyncio.gather(*(one(place) for place in (range(len(self.scripts)) if places is None else places)))

    def _prepared(self, script: EpisodeScript) -> tuple[list[int], list[list[int]]]:
        """Prompt ids, and the ids of each document block."""
        env = self.environment
        prompt = env.tokenizer.encode(render_prompt(env.protocol, script.row, env.tokenizer))
        results = [Found("", tuple(hit.passage for hit in hits)) for hits in script.hits]
        return prompt, [env.tokenizer.encode(env.documents.render([found])) for found in results]

    async def measure(self, way: str, latency: str) -> Pass:
        """One pass from an empty prefix cache."""
        await self.engine.fresh()
        self.our_seconds = 0.0
        started = time.perf_counter()
        waited = await WAYS[way](self, latency)
        usage = self.engine.usage
        return Pass(
            way, latency, time.perf_counter() - started, usage.sampled, usage.prompt, usage.cached, usage.again,
            usage.busy, usage.occupied, waited, self.our_seconds,
        )  # fmt: skip


WAYS: dict[str, Callable[[Bench, str], Awaitable[float]]] = {
    "limit": Bench.limit,
    "ours": Bench.ours,
    "lockstep": Bench.lockstep,
    "lockstep_cached": Bench.lockstep_cached,
    "cut": Bench.cut,
}
PLAN = [
    ("limit", "0ms"),
    *(("ours", name) for name in LATENCIES),
    *((name, "heavy_tail") for name in ("lockstep", "lockstep_cached", "cut")),
]


async def run(bench: Bench, repeats: int, plan: Sequence[tuple[str, str]]) -> list[list[Pass]]:
    """Repeats of the whole plan, after one pass that warms up; ways alternate, so that drift hits all alike."""
    await bench.measure("limit", "0ms")
    passes = []
    with tqdm(total=repeats * len(plan), unit="pass") as bar:
        for number in range(repeats):
            order = plan if number % 2 == 0 else plan[::-1]
            played = []
            for way, latency in order:
                bar.set_postfix_str(f"{way} {latency}")
                played.append(await bench.measure(way, latency))
                bar.update()
            passes.append(played)
    return passes


PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {"size": "cpu", "scale": 0.5, "episodes": 192, "slots": 64, "repeats": 5, "block_size": 32},
    "gpu": {"size": "0.5b", "scale": 1.0, "episodes": 512, "slots": 256, "repeats": 5, "block_size": 16},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    options = _parser().parse_args(argv)
    return run_command("benchmarks.rollout", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    settings = {name: getattr(options, name) or value for name, value in PRESETS[options.preset].items()}
    settings["concurrency"] = options.concurrency or settings["episodes"]
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"  # as in training: the engine's core in a process of its own
    device = prepare_environment()
    with tempfile.TemporaryDirectory() as folder, console_apart(options.log):
        passes = measure(settings, Path(folder), options.model, cuda=device is Device.CUDA)
    result = summarize(passes, settings)
    print_report(result)
    if options.json:
        rows = [[asdict(each) for each in played] for played in passes]
        write_json(options.json, {**result, "passes": rows})
    if options.chart:
        save_chart(result, options.chart)


def measure(
    settings: dict[str, Any],
    folder: Path,
    model: str | None = None,
    *,
    cuda: bool,
    plan: Sequence[tuple[str, str]] = PLAN,
) -> list[list[Pass]]:
    """The passes of each repeat, on an engine that is started for them; `folder` gets the model's files."""
    from transformers import AutoTokenizer

    scripts = draw_scripts(settings["episodes"], scale=settings["scale"])
    max_length = max(4096, round(24_000 * settings["scale"]))
    path = model or str(make_model(folder, str(TINY_BASE), SIZES[settings["size"]], max_length))
    limits = Limits(max_searches=None, turn_tokens=max_length, max_length=max_length, top_k=3)
    reader = ScriptReader(AutoTokenizer.from_pretrained(path))
    environment = Environment(R1_SEARCHER_TINY, limits, ScriptedRetriever(scripts, constant(0.0)), reader)

    async def play() -> list[list[Pass]]:
        engine = Engine(
            path, max_length=max_length, slots=settings["slots"], block_size=settings["block_size"], cuda=cuda
        )
        try:
            bench = Bench(engine, scripts, environment, settings["scale"], settings["concurrency"])
            return await run(bench, settings["repeats"], plan)
        finally:
            engine.close()

    return asyncio.run(play())


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="benchmarks.rollout", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--model", help="a model with its tokenizer, instead of random weights of --size")
    parser.add_argument("--size", choices=SIZES)
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--slots", type=int, help="sequences that the engine runs at once")
    parser.add_argument("--concurrency", type=int, help="episodes in flight (default: all, as in training)")
    parser.add_argument("--scale", type=float, help="factor of the published lengths")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--block-size", type=int, dest="block_size")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path, help="PNG file to draw")
    parser.add_argument("--log", type=Path, default=Path("rollout_engine.log"), help="output of the engine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
