"""Off-policy correctness: weights that change while an episode is played leave each token its own log-prob.

Asynchronous training with partial rollout loads new weights into an engine whose requests are under way. The importance
correction needs, for each token, the log-prob under the weights that sampled it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.processes.e2e_stack import REPO

pytestmark = pytest.mark.e2e

MODEL = REPO / "data_prep" / "tiny" / "model"
FLATTER = 0.3
"""The final norm is multiplied by this: every distribution changes, and no cached key or value does."""
TURN_TOKENS = 60


def scale_norm(worker):
    worker.model_runner.model.model.norm.weight.data.mul_(FLATTER)


class ScriptedEnd:
    """The engine's policy, with turns of a fixed length, the first of which reads as a search."""

    def __init__(self, engine, params) -> None:
        from r1_searcher.episode.engine_policy import EnginePolicy

        self.turns = []
        self._policy = EnginePolicy(self._generate, params)
        self._engine = engine

    async def _generate(self, ids, params):
        params.ignore_eos, params.stop, params.min_tokens = True, [], TURN_TOKENS
        waiting = asyncio.create_task(self._engine.generate(ids, params))
        if len(self.turns) == 1:  # in the middle of the second turn
            for _ in range(TURN_TOKENS // 3):  # the engine's thread takes each of these between two of its steps
                await asyncio.wrap_future(self._engine._thread.submit(int))
            await asyncio.wrap_future(self._engine._thread.submit(self._engine._engine.collective_rpc, scale_norm))
        return await waiting

    async def generate(self, ids, *, stops, max_tokens):
        completion = await self._policy.generate(ids, stops=stops, max_tokens=TURN_TOKENS)
        self.turns.append((list(ids), completion))
        return completion


def log_probs(ids, start, scale):
    """[len(ids) - start] log-probs of `ids[start:]` under the model with its final norm scaled."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    model.model.norm.weight.data.mul_(scale)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, start - 1 : -1].float()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[start:])[:, None])[:, 0].tolist()


def test_each_token_keeps_the_log_prob_of_the_weights_that_sampled_it(tmp_path: Path) -> None:
    from r1_searcher.inference.engine import EngineSettings, VllmEngine, console_apart, prepare_environment

    with console_apart(tmp_path / "engine.log"):
        device = prepare_environment()
        from vllm import SamplingParams

        engine = VllmEngine.start(EngineSettings(str(MODEL), 384, device))
        policy = ScriptedEnd(engine, SamplingParams(temperature=1.0, logprobs=0))

        async def three_turns():
            ids = [5, 6, 7, 8]
            for _ in range(3):
                completion = await policy.generate(ids, stops=(), max_tokens=TURN_TOKENS)
                ids = [*ids, *completion.ids, 9, 10, 11]  # documents between the turns

        try:
            asyncio.run(three_turns())
        finally:
            engine.close()
    errors = []
    for context, completion in policy.turns:
        ids = [*context, *completion.ids]
        old, new = (log_probs(ids, len(context), scale) for scale in (1.0, FLATTER))
        errors.append([(abs(p - o), abs(p - n)) for p, o, n in zip(completion.logprobs, old, new, strict=True)])
    first, second, third = errors
    # bf16 moves a log-prob by some hundredths; the two sets of weights are nats apart.
    assert sum(old for old, _ in first) / len(first) < 0.05 < sum(new for _, new in first) / len(first)
    assert sum(new for _, new in third) / len(third) < 0.05 < sum(old for old, _ in third) / len(third)
    closest = ["old" if old < new else "new" for old, new in second]
    change = min(range(1, len(second)), key=lambda at: sum(n for _, n in second[at:]) + sum(o for o, _ in second[:at]))
    assert sum(o for o, _ in second[:change]) / change < 0.05, closest
    assert sum(n for _, n in second[change:]) / (len(second) - change) < 0.05, closest
