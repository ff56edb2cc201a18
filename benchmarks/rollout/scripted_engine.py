"""The real engine made to play scripted turns: it samples as many tokens as the script says, our loop reads the script.

Sampling, scheduling, prefix cache and log-probs are vLLM's own. What the random model samples means nothing, so the
text that the loop gets to read is the script's; the sampled ids stay what they are, in the record and in the context.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rollout.stopwatch import Stopwatch
from benchmarks.rollout.workload import EpisodeScript
from r1_searcher.episode.engine_policy import EnginePolicy
from r1_searcher.episode.policy import Completion, Finish
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.tokenization import HFTokenizer


@dataclass(frozen=True)
class ModelSize:
    """A Qwen2 with random weights."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int


SIZES = {
    "cpu": ModelSize(hidden=256, layers=6, heads=8, kv_heads=2, mlp=768),
    "0.5b": ModelSize(hidden=896, layers=24, heads=14, kv_heads=2, mlp=4864),
    "7b": ModelSize(hidden=3584, layers=28, heads=28, kv_heads=4, mlp=18944),
}


def make_model(folder: Path, tokenizer_from: str, size: ModelSize, max_length: int) -> Path:
    """Save a model of this size with the given tokenizer; the folder."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.nn.Module.to(Qwen2ForCausalLM(config), torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass
class Usage:
    """The engine's work during one pass."""

    sampled: int = 0
    prompt: int = 0
    cached: int = 0
    again: int = 0
    """Prompt tokens that an earlier turn of the same episode had computed already, and that were computed again."""
    busy: float = 0.0
    """Request-seconds, those of waiting for a slot included."""
    occupied: float = 0.0
    """Slot-seconds in which a slot had a request."""


class Engine:
    """vLLM's asynchronous engine as training runs it: the core in a process of its own."""

    def __init__(self, model: str, *, max_length: int, slots: int, block_size: int | None, cuda: bool) -> None:
        import vllm

        arguments: dict[str, Any] = {"gpu_memory_utilization": 0.85} if cuda else {"enforce_eager": True}
        if block_size is not None:
            arguments["block_size"] = block_size
        self._llm = vllm.AsyncLLMEngine.from_engine_args(
            vllm.AsyncEngineArgs(
                model=model,
                dtype="bfloat16",
                max_model_len=max_length,
                max_num_seqs=slots,
                enable_prefix_caching=True,
                **arguments,
            )
        )
        self._slots = slots
        self._count = self._open = 0
        self._since = time.perf_counter()
        self.usage = Usage()

    async def generate(self, ids: list[int], params: Any, known: int = 0) -> Any:
        """One request; `known` ids at its start were computed for an earlier turn."""
        from vllm.inputs import TokensPrompt

        self._count += 1
        started = time.perf_counter()
        self._opened(1)
        async for output in self._llm.generate(TokensPrompt(prompt_token_ids=ids), params, f"r{self._count}"):
            final = output
        self._opened(-1)
        usage, cached = self.usage, final.num_cached_tokens or 0
        usage.busy += time.perf_counter() - started
        usage.sampled += len(final.outputs[0].token_ids)
        usage.prompt += len(ids)
        usage.cached += cached
        usage.again += max(0, known - cached)
        return final

    async def forget(self) -> None:
        """Drop cached prefixes. Not while a request is open."""
        await self._llm.reset_prefix_cache()

    async def fresh(self) -> None:
        """Drop cached prefixes, and count from nothing."""
        await self.forget()
        self._opened(0)
        self.usage = Usage()

    def _opened(self, more: int) -> None:
        now = time.perf_counter()
        self.usage.occupied += min(self._open, self._slots) * (now - self._since)
        self._open, self._since = self._open + more, now

    def close(self) -> None:
        """Stop the engine's processes."""
        self._llm.shutdown()


def turn_params(tokens: int) -> Any:
    """Sampling of exactly so many tokens, with log-probs as in training."""
    from vllm import SamplingParams

    return SamplingParams(temperature=1.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, logprobs=0)


class ScriptReader(HFTokenizer):
    """The real tokenizer, except that a turn reads as its script says. Decoding is done anyway."""

    def __init__(self, hf: Any) -> None:
        super().__init__(hf)
        self.next_text = ""

    def decode(self, ids: Sequence[int]) -> str:
        """The scripted turn, whatever the ids; decoding is still paid for."""
        super().decode(ids)
        return self.next_text


class TimedTurns:
    """One episode's turns on the engine, through the policy that training uses."""

    def __init__(
        self, engine: Engine, script: EpisodeScript, reader: ScriptReader, protocol: Protocol, watch: Stopwatch
    ) -> None:
        """`watch` gets the time that the engine's own coroutines take."""
        self._engine, self._script, self._reader, self._protocol = engine, script, reader, protocol
        self._watch = watch
        self._turn = 0
        self._known = 0
        self._policy = EnginePolicy(self._exactly, turn_params(1))

    async def _exactly(self, ids: list[int], params: Any) -> Any:
        tokens = params.max_tokens
        params.min_tokens, params.ignore_eos, params.stop = tokens, True, []
        final = await self._watch.time(self._engine.generate(ids, params, self._known))
        final.outputs[0].finish_reason = "stop"
        return final

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """A turn of the scripted length on the real engine, with the scripted text."""
        turn = self._script.turns[self._turn]
        done = await self._policy.generate(ids, stops=stops, max_tokens=turn.tokens)
        self._known = len(ids) + len(done.ids)
        query, answer = self._protocol.query, self._protocol.answer
        searches = turn.document_tokens is not None
        # Read by the loop before any other coroutine runs: nothing is awaited in between.
        self._reader.next_text = (
            f"{query.open} {self._turn} {query.close}"
            if searches
            else f"{self._protocol.think.close} {answer.open} x {answer.close}"
        )
        self._turn += 1
        return Completion(done.ids, Finish.STOP if searches else Finish.EOS, done.logprobs)


class ScriptedRetriever:
    """Answers an episode's n-th search with its n-th hits, after a latency."""

    def __init__(self, scripts: Sequence[EpisodeScript], latency: Any) -> None:
        self._hits = {script.row.id: script.hits for script in scripts}
        self._latency = latency
        self.waited = 0.0

    async def search(self, request: Any) -> Any:
        """The scripted passages, after the latency drawn for this search."""
        row, number = request.context["row"], int(request.query)
        seconds = self._latency(row.id, number)
        if seconds:
            await asyncio.sleep(seconds)
        self.waited += seconds
        return self._hits[row.id][number]

    async def close(self) -> None:
        """Nothing to release."""
