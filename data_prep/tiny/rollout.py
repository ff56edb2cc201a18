"""Judging the tiny base model while it is built: the project's episode loop over one batched model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from data_prep.tiny.demos import good_script
from data_prep.tiny.dialects import Dialect
from data_prep.tiny.difficulty import TOP_K
from data_prep.tiny.facts import CHAIN, Question
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.policy import Completion, Finish, Policy
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.scripted_policy import ScriptedPolicy
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.reward.metrics import exact_match, f1
from retriever.index.bm25 import Bm25Index
from retriever.passage import Hits, SearchRequest

if TYPE_CHECKING:
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

LIMITS = Limits(max_searches=4, turn_tokens=48, max_length=512, top_k=TOP_K, answer_tokens=16)


class InlineRetriever:
    """An index without threads: episodes never wait for it, so their batches are the same in every run."""

    def __init__(self, index: Bm25Index) -> None:
        self._index = index

    async def search(self, request: SearchRequest) -> Hits:
        """Hits of the index in memory."""
        return self._index.search([request.query], request.top_k)[0]

    async def close(self) -> None:
        """Nothing to release."""


class BatchedPolicy:
    """A Hugging Face model that samples one turn of all waiting episodes at once.

    Args:
        temperature: 0 for greedy, 1 for the model's own distribution.
        seed: of the sampling.
    """

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, temperature: float, seed: int) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._temperature = temperature
        self._waiting: list[tuple[list[int], frozenset[int], int, asyncio.Future[Completion]]] = []
        torch.manual_seed(seed)

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """As `Policy`; every stop string is one token, all callers' the same."""
        stop_ids = frozenset(self._tokenizer.get_vocab()[stop] for stop in stops)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        if not self._waiting:  # by the time the callback runs, every episode that can has joined
            loop.call_soon(self._flush)
        self._waiting.append((list(ids), stop_ids, max_tokens, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        stop_ids = waiting[0][1]
        sampled = self._sample([ids for ids, *_ in waiting], stop_ids, max(budget for _, _, budget, _ in waiting))
        for (_, _, budget, future), ids in zip(waiting, sampled, strict=True):
            future.set_result(self._completion(ids[:budget], stop_ids))

    @torch.inference_mode()
    def _sample(self, contexts: Sequence[list[int]], stop_ids: frozenset[int], max_tokens: int) -> list[list[int]]:
        width = max(map(len, contexts))
        pad, eos = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        padded = torch.tensor([[pad] * (width - len(ids)) + ids for ids in contexts])  # [episodes, width]
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in contexts])
        greedy = self._temperature == 0
        sampling = {} if greedy else {"temperature": self._temperature, "top_k": 0, "top_p": 1.0}
        output = self._model.generate(
            input_ids=padded,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            do_sample=not greedy,
            eos_token_id=[eos, *sorted(stop_ids)],
            pad_token_id=pad,
            **sampling,
        )
        return [row[width:].tolist() for row in output]

    def _completion(self, ids: list[int], stop_ids: frozenset[int]) -> Completion:
        for place, token in enumerate(ids):
            if token in stop_ids or token == self._tokenizer.eos_token_id:
                return Completion(tuple(ids[: place + 1]), Finish.STOP if token in stop_ids else Finish.EOS)
        return Completion(tuple(ids), Finish.LENGTH)


def right_searches(dialect: Dialect, questions: Sequence[Question]) -> list[Sequence[str]]:
    """The right first search of each question: with it written for the policy, is the rest of the skill there?"""
    return [good_script(dialect, question).actions[:1] for question in questions]


def play(
    dialect: Dialect,
    policy: Policy | None,
    tokenizer: Qwen2Tokenizer,
    index: Bm25Index,
    questions: Sequence[Question],
    written: Sequence[Sequence[str]] = (),
) -> list[Trajectory]:
    """One episode per question, all at once.

    Args:
        policy: None: every turn is written.
        written: the first turns of each question's episode, which the policy does not sample; empty: none.
    """
    env = Environment(dialect.protocol, LIMITS, InlineRetriever(index), HFTokenizer(tokenizer))
    turns = written or [()] * len(questions)

    async def all_episodes() -> list[Trajectory]:
        episodes = (
            run_episode(env, question.row(f"q{number}"), ScriptedPolicy(env.tokenizer, script, then=policy))
            for number, (question, script) in enumerate(zip(questions, turns, strict=True))
        )
        return await asyncio.gather(*episodes)

    return asyncio.run(all_episodes())


def summary(dialect: Dialect, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Means over the episodes, F1 and exact match also by hops, of comparisons apart."""
    chains = [t for t in trajectories if t.row.source == CHAIN]
    by_hops = {
        hops: [t for t in chains if t.row.hops == hops] for hops in sorted({t.row.hops for t in chains if t.row.hops})
    }
    groups = {"": trajectories} | {f"_{hops}hop": members for hops, members in by_hops.items()}
    if others := [t for t in trajectories if t.row.source != CHAIN]:
        groups["_comparison"] = others
    numbers = {
        "retrieval": [float(t.n_searches > 0) for t in trajectories],
        "searches": [float(t.n_searches) for t in trajectories],
        "format": [float(dialect.protocol.is_well_formed(t)) for t in trajectories],
    }
    for suffix, members in groups.items():
        numbers[f"f1{suffix}"] = [f1(t.answer, t.row.answers) for t in members]
        numbers[f"em{suffix}"] = [exact_match(t.answer, t.row.answers) for t in members]
    return {name: round(sum(values) / max(1, len(values)), 4) for name, values in numbers.items()}
