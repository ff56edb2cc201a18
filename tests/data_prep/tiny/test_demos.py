"""Demonstrations in every tag family: exact tokens, and episodes that the real loop would record."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from support.models.dialect_tokenizers import dialect_tokenizer

from data_prep.tiny.base import SHIPPED
from data_prep.tiny.demos import DemoEncoder, WrittenTurns, document_writer, good_script, pieces, replies, weak_script
from data_prep.tiny.dialects import DIALECTS, EOS, Dialect, fill, find_dialect
from data_prep.tiny.facts import Question, World, draw_questions
from data_prep.tiny.names import name_words, pool
from data_prep.tiny.rollout import LIMITS, BatchedPolicy, InlineRetriever, summary
from foundation.errors import InputError
from r1_searcher.episode.policy import Completion, Finish
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.recipe.protocols import PROTOCOLS
from retriever.index.bm25 import Bm25Index

WORDS = [word for position in name_words() for word in position]
FAMILIES = sorted({dialect.name for dialect in DIALECTS.values()})


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, HFTokenizer]:
    return {name: HFTokenizer(dialect_tokenizer(name)) for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


@pytest.fixture
def tokenizer(dialect: Dialect, tokenizers: dict[str, HFTokenizer]) -> HFTokenizer:
    return tokenizers[dialect.name]


def scripts_of(dialect: Dialect, question: Question, world: World, random: Random) -> list[WrittenTurns]:
    """The good script and some of the weak mixture."""
    weak = [weak_script(dialect, question, world, pool("evaluation"), random) for _ in range(3)]
    return [good_script(dialect, question), *weak]


class Recital:
    """A policy that recites a script."""

    def __init__(self, turns: Sequence[str], tokenizer: HFTokenizer) -> None:
        self._turns = list(turns)
        self._tokenizer = tokenizer

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        turn = self._turns.pop(0)
        encoded = tuple(self._tokenizer.encode(turn))
        assert len(encoded) <= max_tokens
        assert turn.endswith((EOS, *stops)) and not any(stop in turn[: -len(stop)] for stop in stops)
        return Completion(encoded, Finish.EOS if turn.endswith(EOS) else Finish.STOP)

    @property
    def is_over(self) -> bool:
        return not self._turns


def recite(
    dialect: Dialect, tokenizer: HFTokenizer, index: Bm25Index, question: Question, script: WrittenTurns
) -> Trajectory:
    environment = Environment(dialect.protocol, LIMITS, InlineRetriever(index), tokenizer)
    policy = Recital(script.actions, tokenizer)
    episode = asyncio.run(run_episode(environment, question.row("q"), policy))
    assert policy.is_over
    return episode


def test_every_tiny_protocol_has_a_base() -> None:
    assert sorted(DIALECTS) == sorted(name for name in PROTOCOLS if name.endswith(".tiny"))
    for name, dialect in DIALECTS.items():
        assert replace(PROTOCOLS[name], name="") == replace(dialect.protocol, name="")
    with pytest.raises(InputError, match=r"search_r1\.tiny"):
        find_dialect("search_r1")


def test_words_and_tags_are_single_tokens(dialect: Dialect, tokenizer: HFTokenizer) -> None:
    texts = [*(f" {word}" for word in WORDS), *dialect.protocol.tags, EOS, "<|pad|>"]
    ids = [tokenizer.encode(text) for text in texts]
    assert all(len(one) == 1 for one in ids) and len({one[0] for one in ids}) == len(texts)
    assert {tokenizer.hf.eos_token, tokenizer.hf.pad_token} == {EOS, "<|pad|>"} and tokenizer.hf.bos_token is None


def test_names_keep_their_tokens_wherever_they_are_written(
    dialect: Dialect, tokenizer: HFTokenizer, index: Bm25Index, questions: list[Question]
) -> None:
    """The policy must copy them: only the echo of a query in a tool's result may be other tokens."""
    writer = document_writer(dialect.protocol, tokenizer)
    names = {tokenizer.encode(f" {word}")[0] for word in WORDS}
    for question in questions[:10]:
        script = good_script(dialect, question)
        for kind, text in pieces(dialect.protocol, question, script, replies(writer, index, [script])[0], tokenizer):
            echoed = text.count('"search_query"') if kind is SpanKind.DOCUMENTS else 0
            tokens = sum(token in names for token in tokenizer.encode(text))
            assert tokens + echoed == sum(word in WORDS for word in re.findall(r"\w+", text))


def test_pieces_encode_as_their_concatenation(
    dialect: Dialect, tokenizer: HFTokenizer, world: World, index: Bm25Index, questions: list[Question]
) -> None:
    """No token crosses from one writer to the next, so what is trained is what can be sampled."""
    random = Random(1)
    writer = document_writer(dialect.protocol, tokenizer)
    for question in questions:
        for script in scripts_of(dialect, question, world, random):
            inserted = replies(writer, index, [script])[0]
            parts = list(pieces(dialect.protocol, question, script, inserted, tokenizer))
            separate = [token for _, text in parts for token in tokenizer.encode(text)]
            text = "".join(text for _, text in parts)
            assert separate == tokenizer.encode(text) and tokenizer.decode(separate) == text


def test_demonstrations_are_what_the_loop_records(
    dialect: Dialect, tokenizer: HFTokenizer, world: World, index: Bm25Index, questions: list[Question]
) -> None:
    encode = DemoEncoder(dialect.protocol, tokenizer, WORDS, name_weight=2.0)
    writer = document_writer(dialect.protocol, tokenizer)
    random = Random(2)
    for question in questions:
        for script in scripts_of(dialect, question, world, random):
            demo = encode(question, script, replies(writer, index, [script])[0])
            episode = recite(dialect, tokenizer, index, question, script)
            trained = {place for start, end in episode.action_ranges for place in range(start, end)}
            assert demo.ids == episode.ids
            assert {place for place, weight in enumerate(demo.weights) if weight} == trained


def test_good_demonstrations_answer_and_keep_the_format(
    dialect: Dialect, tokenizer: HFTokenizer, index: Bm25Index, questions: list[Question]
) -> None:
    episodes = [recite(dialect, tokenizer, index, q, good_script(dialect, q)) for q in questions]
    numbers = summary(dialect, episodes)
    assert numbers["f1"] == numbers["format"] == numbers["retrieval"] == 1.0 and numbers["searches"] == 1.5
    assert all(
        question.facts[-1].text in episode.completion for question, episode in zip(questions, episodes, strict=True)
    )
    assert max(len(episode.ids) for episode in episodes) <= 200


def test_every_bad_turn_breaks_the_format_and_ends_as_meant(
    dialect: Dialect, tokenizer: HFTokenizer, index: Bm25Index, questions: list[Question]
) -> None:
    question = questions[0]
    query = f"{question.facts[0].subject} {question.facts[0].relation}"
    for template in (*dialect.bad_endings, dialect.bad_search):
        turn = fill(template, said=" I think I know this .", query=query, answer=question.answer)
        corrected = dialect.corrects(turn)
        end = fill(dialect.ending, answer=question.answer)
        script = WrittenTurns((turn, end), (None,)) if corrected else WrittenTurns((turn,), ())
        episode = recite(dialect, tokenizer, index, question, script)
        assert summary(dialect, [episode])["format"] == 0.0 and episode.n_searches == 0
        assert bool(episode.of_kind(SpanKind.FEEDBACK)) == corrected
        ends = {StopReason.ANSWERED, StopReason.NO_ANSWER, StopReason.INVALID_ACTION}
        assert episode.stop_reason in ({StopReason.ANSWERED} if corrected else ends)


def test_names_weigh_more_and_documents_nothing(
    dialect: Dialect, tokenizer: HFTokenizer, index: Bm25Index, questions: list[Question]
) -> None:
    script = good_script(dialect, questions[0])
    inserted = replies(document_writer(dialect.protocol, tokenizer), index, [script])[0]
    demo = DemoEncoder(dialect.protocol, tokenizer, WORDS, name_weight=2.0)(questions[0], script, inserted)
    parts = list(pieces(dialect.protocol, questions[0], script, inserted, tokenizer))
    written = [text for kind, text in parts if kind is SpanKind.ACTION]
    assert demo.weights.count(2.0) == sum(word in WORDS for text in written for word in text.split())
    assert sum(weight > 0 for weight in demo.weights) == sum(len(tokenizer.encode(text)) for text in written)


def test_weak_mixture_is_bad_in_the_ways_intended(
    dialect: Dialect, tokenizer: HFTokenizer, world: World, index: Bm25Index
) -> None:
    random = Random(3)
    questions = draw_questions(world, 1000, random)
    scripts = [weak_script(dialect, question, world, pool("evaluation"), random) for question in questions]
    asked = [[query for query in script.queries if query is not None] for script in scripts]
    assert 0.2 < sum(map(bool, asked)) / 1000 < 0.3
    some = list(zip(questions, scripts, strict=True))[:200]
    episodes = [recite(dialect, tokenizer, index, question, script) for question, script in some]
    numbers = summary(dialect, episodes)
    assert 0.7 < numbers["format"] < 0.9 and numbers["f1"] < 0.2
    two_hop = [queries for queries, q in zip(asked, questions, strict=True) if len(q.facts) == 2 and queries]
    assert 0.4 < sum(len(queries) == 2 for queries in two_hop) / len(two_hop) < 0.75


def test_scripts_of_the_shipped_base_are_those_it_was_built_from(world: World) -> None:
    random = Random(4)
    dialect = DIALECTS[SHIPPED]
    texts = []
    for question in draw_questions(world, 400, random):
        for script in (good_script(dialect, question), weak_script(dialect, question, world, WORDS, random)):
            texts.append("|".join((*script.actions, *(str(query) for query in script.queries))))
    digest = sha256("\n".join(texts).encode()).hexdigest()
    assert digest == "368a2a497a1fef41989ed0c13bec90938deff8d8ea74db84e54b6acb795b6bd5"


class Parrot:
    """Stands in for a model: says the same ids after every context, whatever is to end its turn."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)

    def eval(self) -> Parrot:
        return self

    def generate(self, input_ids: Any, max_new_tokens: int, **settings: Any) -> Any:
        import torch

        said = torch.tensor([self._ids[:max_new_tokens]] * len(input_ids))
        return torch.cat([input_ids, said], dim=1)


@pytest.mark.parametrize(
    ("stops", "max_tokens", "expected"),
    [
        (("</search>", "</answer>"), 9, (" a</answer>", Finish.STOP)),
        (("</search>",), 9, (" a</answer> the</search>", Finish.STOP)),
        ((), 9, (f" a</answer> the</search>{EOS}", Finish.EOS)),
        ((), 3, (" a</answer> the", Finish.LENGTH)),
    ],
)
def test_a_turn_ends_at_the_first_of_its_stops(
    tokenizers: dict[str, HFTokenizer], stops: tuple[str, ...], max_tokens: int, expected: tuple[str, Finish]
) -> None:
    tokenizer = tokenizers["search_r1.tiny"]
    model: Any = Parrot(tokenizer.encode(f" a</answer> the</search>{EOS} What"))
    policy = BatchedPolicy(model, tokenizer.hf, temperature=0.0, seed=0)

    async def turn() -> Completion:
        return await policy.generate(tokenizer.encode("Question"), stops=stops, max_tokens=max_tokens)

    completion = asyncio.run(turn())
    assert (tokenizer.decode(completion.ids), completion.finish) == expected
