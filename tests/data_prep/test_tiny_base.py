"""The tiny base model: exact tokens, demonstrations that the real loop would produce, the shipped files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from data_prep import tiny_base
from data_prep.tiny_demos import (
    EOS,
    PROTOCOL,
    DemoEncoder,
    document_blocks,
    good_script,
    pieces,
    weak_script,
)
from data_prep.tiny_facts import Question, World, draw_questions, draw_world
from data_prep.tiny_names import name_words, pool
from data_prep.tiny_rollout import LIMITS, BatchedPolicy, InlineRetriever, play, summary
from data_prep.tiny_tokenizer import build_tokenizer
from r1_searcher.policy import Completion, Finish
from r1_searcher.prompting import render_prompt
from r1_searcher.protocol import R1_SEARCHER_CHAT
from r1_searcher.rollout import Environment, run_episode
from r1_searcher.tokenization import HFTokenizer
from r1_searcher.trajectory import SpanKind, StopReason
from retriever.bm25 import Bm25Index

WORDS = [word for position in name_words() for word in position]


@pytest.fixture(scope="module")
def shipped() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base.FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch

    torch.set_num_threads(1)
    return tiny_base.load(tiny_base.FOLDER)


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(pool("evaluation"), Random(0))


@pytest.fixture(scope="module")
def index(world: World) -> Bm25Index:
    return Bm25Index.build(world.passages("evaluation"))


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    return draw_questions(world, 40, Random(0))


def test_shipped_tokenizer_is_the_rebuilt_one(shipped: Any, tmp_path: Path) -> None:
    rebuilt = build_tokenizer()
    rebuilt.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (tiny_base.FOLDER / name).read_bytes()
    assert shipped.backend_tokenizer.to_str() == rebuilt.backend_tokenizer.to_str()


def test_words_and_tags_are_single_tokens(shipped: Any) -> None:
    texts = [*(f" {word}" for word in WORDS), *PROTOCOL.tags, EOS, "<|pad|>"]
    ids = [shipped(text)["input_ids"] for text in texts]
    assert all(len(one) == 1 for one in ids) and len({one[0] for one in ids}) == len(texts)
    assert {shipped.eos_token, shipped.pad_token} == {EOS, "<|pad|>"} and shipped.bos_token is None


@pytest.mark.parametrize("text", ["", " ", "Zürich 東京\n\t<answer>x</answer>", "(1) Film A : b\r\n", "a  b   c"])
def test_any_text_survives(shipped: Any, text: str) -> None:
    tokenizer = HFTokenizer(shipped)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_chat_template(shipped: Any, questions: list[Question]) -> None:
    prompt = render_prompt(R1_SEARCHER_CHAT, questions[0].row("q"), HFTokenizer(shipped))
    assert prompt.startswith("System : You answer")
    assert prompt.endswith(f"\nUser : {questions[0].text}\nAssistant : <think>")


def test_pieces_encode_as_their_concatenation(
    shipped: Any, world: World, index: Bm25Index, questions: list[Question]
) -> None:
    """No token crosses from one writer to the next, so what is trained is what can be sampled."""
    tokenizer = HFTokenizer(shipped)
    random = Random(1)
    for question in questions:
        for script in (good_script(question), weak_script(question, world, pool("evaluation"), random)):
            parts = list(pieces(question, script, document_blocks(index, [script])[0], tokenizer))
            separate = [token for _, text in parts for token in tokenizer.encode(text)]
            text = "".join(text for _, text in parts)
            assert separate == tokenizer.encode(text) and tokenizer.decode(separate) == text


class Recital:
    """A policy that recites a script."""

    def __init__(self, turns: Sequence[str], tokenizer: HFTokenizer) -> None:
        self._turns = list(turns)
        self._tokenizer = tokenizer

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        turn = self._turns.pop(0)
        encoded = tuple(self._tokenizer.encode(turn))
        assert len(encoded) <= max_tokens
        return Completion(encoded, Finish.STOP if turn.endswith(stops[0]) else Finish.EOS)


def test_demonstrations_are_what_the_loop_records(
    shipped: Any, world: World, index: Bm25Index, questions: list[Question]
) -> None:
    tokenizer = HFTokenizer(shipped)
    environment = Environment(PROTOCOL, LIMITS, InlineRetriever(index), tokenizer)
    encode = DemoEncoder(tokenizer, WORDS, name_weight=2.0)
    random = Random(2)
    for question in questions:
        for script in (good_script(question), weak_script(question, world, pool("evaluation"), random)):
            demo = encode(question, script, document_blocks(index, [script])[0])
            policy = Recital(script.actions, tokenizer)
            episode = asyncio.run(run_episode(environment, question.row("q"), policy))
            trained = {place for start, end in episode.action_ranges for place in range(start, end)}
            assert demo.ids == episode.ids
            assert {place for place, weight in enumerate(demo.weights) if weight} == trained


def test_good_demonstrations_answer_and_keep_the_format(
    shipped: Any, index: Bm25Index, questions: list[Question]
) -> None:
    tokenizer = HFTokenizer(shipped)
    environment = Environment(PROTOCOL, LIMITS, InlineRetriever(index), tokenizer)
    episodes = []
    for question in questions:
        policy = Recital(good_script(question).actions, tokenizer)
        episodes.append(asyncio.run(run_episode(environment, question.row("q"), policy)))
    numbers = summary(episodes)
    assert numbers["f1"] == numbers["format"] == numbers["retrieval"] == 1.0 and numbers["searches"] == 1.5
    assert all(
        question.facts[-1].text in episode.completion for question, episode in zip(questions, episodes, strict=True)
    )
    assert max(len(episode.ids) for episode in episodes) <= 160


def test_names_weigh_more_and_documents_nothing(shipped: Any, index: Bm25Index, questions: list[Question]) -> None:
    tokenizer = HFTokenizer(shipped)
    question = questions[0]
    script = good_script(question)
    blocks = document_blocks(index, [script])[0]
    demo = DemoEncoder(tokenizer, WORDS, name_weight=2.0)(question, script, blocks)
    parts = list(pieces(question, script, blocks, tokenizer))
    written = "".join(text for kind, text in parts if kind is SpanKind.ACTION)
    assert demo.weights.count(2.0) == sum(word in WORDS for word in written.split())
    assert sum(weight > 0 for weight in demo.weights) == len(tokenizer.encode(written))


def test_weak_mixture_is_bad_in_the_ways_intended(world: World) -> None:
    random = Random(3)
    questions = draw_questions(world, 1000, random)
    scripts = [weak_script(question, world, pool("evaluation"), random) for question in questions]
    assert 0.2 < sum(bool(script.queries) for script in scripts) / 1000 < 0.3
    malformed = [
        s for s in scripts if not s.actions[-1].endswith(f"</answer>{EOS}") or "</think> <answer>" not in s.actions[-1]
    ]
    assert 0.1 < len(malformed) / 1000 < 0.25
    two_hop = [s for s, q in zip(scripts, questions, strict=True) if len(q.facts) == 2 and s.queries]
    assert 0.4 < sum(len(script.queries) == 2 for script in two_hop) / len(two_hop) < 0.75


def test_shipped_model_is_small_and_complete(model: Any, shipped: Any) -> None:
    assert (tiny_base.FOLDER / "model.safetensors").stat().st_size < 3_000_000
    assert model.config.vocab_size >= len(shipped) and model.config.vocab_size % 64 == 0
    assert model.config.hidden_size // model.config.num_attention_heads == 32
    assert model.generation_config.eos_token_id == shipped.eos_token_id


def test_shipped_model_is_a_weak_base_with_its_skill_intact(
    model: Any, shipped: Any, index: Bm25Index, questions: list[Question]
) -> None:
    sampled = summary(play(BatchedPolicy(model, shipped, 1.0, seed=0), shipped, index, questions))
    assert 0.05 < sampled["retrieval"] < 0.5 and sampled["f1"] < 0.25 and sampled["format"] > 0.4
    greedy = BatchedPolicy(model, shipped, 0.0, seed=0)
    assert summary(play(greedy, shipped, index, questions))["f1"] < 0.3
    forced = summary(play(greedy, shipped, index, questions, force=True))
    assert forced["retrieval"] == 1.0 and forced["f1_1hop"] > 0.9 and forced["f1_2hop"] > 0.75


def test_playing_twice_is_the_same(model: Any, shipped: Any, index: Bm25Index, questions: list[Question]) -> None:
    one, two = (play(BatchedPolicy(model, shipped, 1.0, seed=5), shipped, index, questions[:8]) for _ in range(2))
    assert [episode.ids for episode in one] == [episode.ids for episode in two]
    assert {episode.stop_reason for episode in one} <= set(StopReason)


def test_tokenizer_only(tmp_path: Path) -> None:
    assert tiny_base.main(["--out", str(tmp_path), "--tokenizer-only"]) == 0
    assert (tmp_path / "tokenizer.json").exists() and not (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rebuilding_gives_a_base_as_good(tmp_path: Path) -> None:
    """Bit for bit on one machine; elsewhere rounding differs, and the figures stay close."""
    assert tiny_base.main(["--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["skill_again"]["f1_2hop"] > 0.9
    assert metrics["base"]["sampled"]["retrieval"] < 0.5 and metrics["base"]["sampled"]["f1"] < 0.2
    assert metrics["base"]["greedy_after_right_search"]["f1_1hop"] > 0.9
