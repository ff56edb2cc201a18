"""Demonstrations for the tiny base model: a good searcher, and the weak mixture that RL starts from.

A demonstration is a chain of pieces, as a rollout makes them: the prompt, then actions and document blocks
in turn.  Each piece is encoded by itself, so its ids are those that the policy samples or the environment
inserts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from data_prep.tiny_facts import Fact, Question, World
from r1_searcher.documents import PassageSanitizer, render_documents
from r1_searcher.prompting import render_prompt
from r1_searcher.protocol import R1_SEARCHER_TINY
from r1_searcher.tokenization import Tokenizer
from r1_searcher.trajectory import SpanKind
from retriever.bm25 import Bm25Index

PROTOCOL = R1_SEARCHER_TINY
TOP_K = 2
"""Passages per search, in the demonstrations and in the rollouts that follow them."""
EOS = "<|endoftext|>"

SANITIZE = PassageSanitizer(PROTOCOL.tags)


@dataclass(frozen=True)
class Script:
    """What a policy writes: each search (query, and what it says before it), then the ending."""

    actions: tuple[str, ...]
    """Texts of the turns; all but the last end with the query's closing tag."""
    queries: tuple[str, ...]
    """What each turn but the last asks for."""


@dataclass(frozen=True)
class Encoded:
    """One demonstration: token ids, and the weight of each in the loss (0 outside actions)."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def search_turn(query: str, said: str = "") -> str:
    """A turn that ends exactly at the closing tag, as the engine stops there."""
    return f"{said} Let me search . {PROTOCOL.query.open} {query} {PROTOCOL.query.close}"


def ending(answer: str) -> str:
    """A well-formed end of an episode."""
    return f" {PROTOCOL.think.close} {PROTOCOL.answer.open} {answer} {PROTOCOL.answer.close}{EOS}"


def _query(fact: Fact) -> str:
    return f"{fact.subject} {fact.relation}"


def _said(fact: Fact) -> str:
    return f" {fact.relation} {fact.value} ."


def script(asked: Sequence[Fact], end: str) -> Script:
    """Search for these facts in turn, read each value out, and end."""
    said = ["", *(_said(fact) for fact in asked)]
    queries = [_query(fact) for fact in asked]
    turns = [search_turn(query, before) for query, before in zip(queries, said, strict=False)]
    return Script((*turns, said[-1] + end), tuple(queries))


def good_script(question: Question) -> Script:
    """Search for every fact of the chain, answer with the last value."""
    return script(question.facts, ending(question.answer))


# How the base policy is bad.  RL can unlearn each habit: samples without it exist.
EAGER_KINDS = frozenset({"town"})
P_SEARCH_EAGER, P_SEARCH = 0.70, 0.18
P_MALFORMED = 0.20
P_OPEN_TAG = 0.06
P_WRONG_ENTITY = 0.20
P_OTHER_FACT = 0.25
P_STOP_AFTER_ONE = 0.35


def weak_script(question: Question, world: World, names: Sequence[str], random: Random) -> Script:
    """Mostly a guess; else searches that may go wrong or stop half-way; either may end malformed."""
    first = question.facts[0]
    if random.random() >= (P_SEARCH_EAGER if first.kind in EAGER_KINDS else P_SEARCH):
        return Script((" I think I know this ." + _weak_ending(random.choice(names), random),), ())
    if random.random() < P_OPEN_TAG:
        turn = search_turn(_query(first)).removesuffix(f" {PROTOCOL.query.close}")
        return Script((turn + ending(random.choice(names)),), ())
    asked = _weak_searches(question, world, random)
    return script(asked, _weak_ending(asked[-1].value, random))


def _weak_searches(question: Question, world: World, random: Random) -> list[Fact]:
    asked: list[Fact] = []
    for hop, wanted in enumerate(question.facts):
        subject = asked[-1].value if asked else wanted.subject
        if hop and (random.random() < P_STOP_AFTER_ONE or wanted.relation not in world.by_subject.get(subject, {})):
            break
        if random.random() < P_WRONG_ENTITY:
            subject = random.choice(world.by_kind[wanted.kind])
        facts = world.by_subject[subject]
        relations = [relation for relation in facts if relation != wanted.relation]
        asked.append(facts[random.choice(relations) if random.random() < P_OTHER_FACT else wanted.relation])
    return asked


def _weak_ending(answer: str, random: Random) -> str:
    if random.random() >= P_MALFORMED:
        return ending(answer)
    think, opened, closed = PROTOCOL.think.close, PROTOCOL.answer.open, PROTOCOL.answer.close
    broken = (
        f" {think} {answer}",
        f" {opened} {answer} {closed}",
        f" {think} {opened} {answer}",
        f" {think} {think} {opened} {answer} {closed}",
    )
    return random.choice(broken) + EOS


def pieces(
    question: Question, written: Script, blocks: Sequence[str], tokenizer: Tokenizer
) -> Iterator[tuple[SpanKind, str]]:
    """Prompt, action, documents, action, …; ``blocks`` are the answers to the script's queries."""
    yield SpanKind.PROMPT, render_prompt(PROTOCOL, question.row(""), tokenizer)
    for place, action in enumerate(written.actions):
        yield SpanKind.ACTION, action
        if place < len(blocks):
            yield SpanKind.DOCUMENTS, blocks[place]


def document_blocks(index: Bm25Index, scripts: Sequence[Script]) -> list[list[str]]:
    """For each script, the documents block that each of its queries brings; one batched search for all."""
    queries = [query for written in scripts for query in written.queries]
    found = iter(index.search(queries, TOP_K) if queries else [])
    return [
        [render_documents(PROTOCOL, [hit.passage for hit in next(found)], SANITIZE) for _ in written.queries]
        for written in scripts
    ]


class DemoEncoder:
    """Pieces to ids and loss weights; names in actions, which must be copied exactly, may weigh more."""

    def __init__(self, tokenizer: Tokenizer, name_words: Sequence[str], name_weight: float) -> None:
        self._tokenizer = tokenizer
        self._name_ids = frozenset(tokenizer.encode(f" {word}")[0] for word in name_words)
        self._name_weight = name_weight

    def __call__(self, question: Question, written: Script, blocks: Sequence[str]) -> Encoded:
        ids: list[int] = []
        weights: list[float] = []
        for kind, text in pieces(question, written, blocks, self._tokenizer):
            new = self._tokenizer.encode(text)
            ids += new
            weights += [self._weight(kind, token) for token in new]
        return Encoded(tuple(ids), tuple(weights))

    def _weight(self, kind: SpanKind, token: int) -> float:
        if kind is not SpanKind.ACTION:
            return 0.0
        return self._name_weight if token in self._name_ids else 1.0
