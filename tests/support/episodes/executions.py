"""Executions of the host's executor: the host's tokenizer and engine, scripted, and calls as the host makes them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

from r1_searcher.episode.policy import Finish
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.recipe.recipe import find_recipe
from support.episodes.fakes import CHATML, ByteTokenizer, ScriptedPolicy, ask, say

RECIPE = dataclasses.replace(
    find_recipe("tiny.stage2"),
    limits=dataclasses.replace(find_recipe("tiny.stage2").limits, turn_tokens=80, max_length=700),
)
EPISODES = {
    "answered": [ask("tower"), say("Paris")],
    "no answer": ["hm"],
    "invalid": [ask("")],
    "nothing found": [ask("zzz"), say("x")],
    "too long": ["x" * 200],
    "too many searches": [ask("tower")] * 5,
    "bad format": [ask("river"), "<think>" + say("Paris")],
}


class HfTokenizer(ByteTokenizer):
    """The toy tokenizer with the face of a Hugging Face one."""

    def __init__(self, protocol: Protocol = R1_SEARCHER_TINY, template: str = CHATML) -> None:
        super().__init__(protocol.tags, protocol.tags, template=template)
        self.all_special_tokens = sorted(self.special_texts)
        self.added_tokens_decoder: dict = {}
        self.eos_token_id = 256

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": self.encode(text)}

    def decode(self, ids, **options):
        return super().decode(ids)

    def apply_chat_template(self, messages, tools=None, **options):
        return super().apply_chat_template(messages, tools or ())


class FakeEngine:
    """The host's engine for one episode: prompt ids and parameters in, a request's output out."""

    def __init__(self, turns, tokenizer: HfTokenizer | None = None) -> None:
        self.policy = ScriptedPolicy(tokenizer or HfTokenizer(), list(turns))

    async def generate(self, ids, params):
        if self.policy.asked and len(ids) == len(self.policy.asked[0].ids):  # the episode is played again
            self.policy.asked.clear()
        done = await self.policy.generate(ids, stops=params.stop, max_tokens=params.max_tokens)
        logprobs = [{t: SimpleNamespace(logprob=v)} for t, v in zip(done.ids, done.logprobs, strict=True)]
        stop = params.stop[0] if done.finish is Finish.STOP else None
        reason = "length" if done.finish is Finish.LENGTH else "stop"
        output = SimpleNamespace(
            token_ids=list(done.ids),
            finish_reason=reason,
            stop_reason=stop,
            logprobs=logprobs if params.logprobs is not None else None,
        )
        return SimpleNamespace(outputs=[output])


def row(n: object = 1) -> QARow:
    return QARow(f"row {n}", f"Question {n}?", ("Paris",))


def sampling(logprobs: int | None = 1):
    from vllm import SamplingParams

    return SamplingParams(temperature=1.0, max_tokens=None, min_tokens=1, logprobs=logprobs)


async def execute(executor, turns, n: object = 1, *, logprobs=1, engine=None, params=None, tokenizer=None):
    params = params or sampling(logprobs)
    return await executor.execute(
        prompt=f"prompt {n}",
        label=row(n).to_json(),
        sampling_params=params,
        max_length=10_000,
        hf_tokenizer=tokenizer or HfTokenizer(),
        llm_engine=engine or FakeEngine(turns, tokenizer),
        images=None,
    )


def run(executor, *scripts, **options):
    async def all_at_once():
        try:
            return await asyncio.gather(*(execute(executor, s, n, **options) for n, s in enumerate(scripts)))
        finally:
            await executor.retriever.close()

    return asyncio.run(all_at_once())


def logged(tmp_path: Path) -> list[dict]:
    (path,) = (tmp_path / "trajectories").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
