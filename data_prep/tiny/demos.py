"""Demonstrations for a tiny base model: a good searcher, and the weak mixture that RL starts from.

A demonstration is a chain of pieces, as a rollout makes them: the prompt, then actions and document blocks
in turn. Each piece is encoded by itself, so its ids are those that the policy samples or the environment
inserts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from data_prep.tiny.dialects import Dialect, fill
from data_prep.tiny.difficulty import QUICKSTART, TOP_K, Dials
from data_prep.tiny.facts import NO, YES, Fact, Question, World
from r1_searcher.episode.documents import DocumentWriter, Found, PassageSanitizer
from r1_searcher.episode.prompting import documents_frame, render_prompt
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import SpanKind
from retriever.index.bm25 import Bm25Index
from retriever.passage import Passage


@dataclass(frozen=True)
class WrittenTurns:
    """The policy's text: turns that the environment answers, then the ending."""

    actions: tuple[str, ...]
    """Texts of the turns, with the closing tag or EOS that ends each."""
    queries: tuple[str | None, ...]
    """What each turn but the last asks for; None where it is malformed and gets the protocol's correction."""
    untaught: int = 0
    """So many turns at the beginning are not in the loss: what follows them is taught, and not to write them."""


@dataclass(frozen=True)
class Encoded:
    """One demonstration: token ids, and the weight of each in the loss (0 outside actions)."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def _query(fact: Fact) -> str:
    return f"{fact.subject} {fact.relation}"


def _said(fact: Fact) -> str:
    return f" {fact.relation} {fact.value} ."


def _searches(dialect: Dialect, asked: Sequence[Fact]) -> WrittenTurns:
    """Search for these facts in turn, and read each value but the last out before the next search."""
    said = ["", *(_said(fact) for fact in asked)]
    queries = [_query(fact) for fact in asked]
    turns = [fill(dialect.search, said=before, query=query) for query, before in zip(queries, said, strict=False)]
    return WrittenTurns(tuple(turns), tuple(queries))


KNOWING = " I think I know this ."
"""What is said before an answer without a search, whether it is right or a guess."""


def good_script(dialect: Dialect, question: Question) -> WrittenTurns:
    """Search for every fact, answer with the last value, or whether both are the same; of known ones search nothing."""
    if question.known:
        return WrittenTurns((fill(dialect.ending, said=KNOWING, answer=question.answer),), ())
    searches = _searches(dialect, question.facts)
    end = fill(dialect.ending, said=_said(question.facts[-1]), answer=question.answer)
    return WrittenTurns((*searches.actions, end), searches.queries)


# How the base policy is bad. RL can unlearn each habit: samples without it exist.
EAGER_KINDS = frozenset({"town"})
P_SEARCH_EAGER, P_SEARCH = 0.70, 0.18
P_MALFORMED = 0.20
P_BAD_SEARCH = 0.06
P_WRONG_ENTITY = 0.20
P_OTHER_FACT = 0.25
P_STOP_AFTER_ONE = 0.35


def weak_script(
    dialect: Dialect,
    question: Question,
    world: World,
    names: Sequence[str],
    random: Random,
    difficulty: Dials = QUICKSTART,
) -> WrittenTurns:
    """Mostly a guess; else searches that may go wrong or stop half-way; either may end malformed."""
    if question.known:
        return _weak_ending(dialect, WrittenTurns((), ()), KNOWING, question.answer, random)
    if random.random() >= _p_search(question) * difficulty.search_rate:
        return _weak_ending(dialect, WrittenTurns((), ()), KNOWING, random.choice(_guesses(question, names)), random)
    if random.random() < P_BAD_SEARCH:
        query, guess = _query(question.facts[0]), random.choice(_guesses(question, names))
        return WrittenTurns((fill(dialect.bad_search, query=query, answer=guess),), ())
    return _weak_search(dialect, question, world, names, random)


def practice_scripts(
    dialect: Dialect,
    questions: Sequence[Question],
    world: World,
    names: Sequence[str],
    random: Random,
    difficulty: Dials,
) -> list[tuple[Question, WrittenTurns]]:
    """The searches that a base leaves out which searches less than the quickstart's, begun for it.

    It learns as much about what follows a search as one that searches, and only its decision to search is rare.
    """
    left_out = 1 - difficulty.search_rate
    return [
        (question, replace(_weak_search(dialect, question, world, names, random), untaught=1))
        for question in questions
        if left_out and not question.known and random.random() < _p_search(question) * left_out
    ]


def _p_search(question: Question) -> float:
    return P_SEARCH_EAGER if question.facts[0].kind in EAGER_KINDS else P_SEARCH


def _guesses(question: Question, names: Sequence[str]) -> Sequence[str]:
    return (YES, NO) if question.compares else names


def _weak_search(
    dialect: Dialect, question: Question, world: World, names: Sequence[str], random: Random
) -> WrittenTurns:
    asked = _weak_searches(question, world, random)
    answer = random.choice(_guesses(question, names)) if question.compares else asked[-1].value
    return _weak_ending(dialect, _searches(dialect, asked), _said(asked[-1]), answer, random)


def _weak_searches(question: Question, world: World, random: Random) -> list[Fact]:
    asked: list[Fact] = []
    for hop, wanted in enumerate(question.facts):
        subject = asked[-1].value if asked and not question.compares else wanted.subject
        if hop and (random.random() < P_STOP_AFTER_ONE or wanted.relation not in world.by_subject.get(subject, {})):
            break
        if random.random() < P_WRONG_ENTITY:
            subject = random.choice(world.by_kind[wanted.kind])
        facts = world.by_subject[subject]
        relations = [relation for relation in facts if relation != wanted.relation]
        asked.append(facts[random.choice(relations) if random.random() < P_OTHER_FACT else wanted.relation])
    return asked


def _weak_ending(dialect: Dialect, so_far: WrittenTurns, said: str, answer: str, random: Random) -> WrittenTurns:
    """The script with its last turn; where a malformed one is corrected, with a better one after it."""
    end = fill(dialect.ending, said=said, answer=answer)
    if random.random() >= P_MALFORMED:
        return WrittenTurns((*so_far.actions, end), so_far.queries)
    bad = fill(random.choice(dialect.bad_endings), said=said, answer=answer)
    if dialect.corrects(bad):
        return WrittenTurns((*so_far.actions, bad, end), (*so_far.queries, None))
    return WrittenTurns((*so_far.actions, bad), so_far.queries)


def document_writer(protocol: Protocol, tokenizer: Tokenizer) -> DocumentWriter:
    """Writes what the environment inserts after a search."""
    sanitize = PassageSanitizer({*protocol.tags, *tokenizer.special_texts})
    return DocumentWriter(protocol, documents_frame(protocol, tokenizer), tokenizer.encode, sanitize)


def document_block(writer: DocumentWriter, query: str, passages: Sequence[Passage]) -> str:
    """The block that one search brings; with tools, as a call of the protocol's first."""
    tools = writer.protocol.tools
    return writer.render([Found(query, tuple(passages), tools[0] if tools else None)])


def replies(
    writer: DocumentWriter, index: Bm25Index, scripts: Sequence[WrittenTurns], shown: Sequence[int] = ()
) -> list[list[str]]:
    """For each script, what the environment inserts after each turn but the last; one batched search for all.

    Args:
        shown: passages per search of each script; empty: `TOP_K` for all.
    """
    shown = shown or [TOP_K] * len(scripts)
    queries = [query for written in scripts for query in written.queries if query is not None]
    found = iter(index.search(queries, max(shown)) if queries else [])
    correction = writer.protocol.feedback
    return [
        [
            correction if query is None else document_block(writer, query, [hit.passage for hit in next(found)[:count]])
            for query in written.queries
        ]
        for written, count in zip(scripts, shown, strict=True)
    ]


def pieces(
    protocol: Protocol, question: Question, written: WrittenTurns, inserted: Sequence[str], tokenizer: Tokenizer
) -> Iterator[tuple[SpanKind, str]]:
    """Prompt, action, documents or correction, action, …; `inserted` is the script's part of `replies`."""
    yield SpanKind.PROMPT, render_prompt(protocol, question.row(""), tokenizer)
    for place, action in enumerate(written.actions):
        yield SpanKind.ACTION, action
        if place < len(inserted):
            yield SpanKind.FEEDBACK if written.queries[place] is None else SpanKind.DOCUMENTS, inserted[place]


class DemoEncoder:
    """Pieces to ids and loss weights; names in actions, which must be copied exactly, may weigh more."""

    def __init__(self, protocol: Protocol, tokenizer: Tokenizer, name_words: Sequence[str], name_weight: float) -> None:
        self._protocol = protocol
        self._tokenizer = tokenizer
        self._name_ids = frozenset(tokenizer.encode(f" {word}")[0] for word in name_words)
        self._name_weight = name_weight

    def __call__(self, question: Question, written: WrittenTurns, inserted: Sequence[str]) -> Encoded:
        """Ids of the whole episode, and the weight of each in the loss: 0 where nothing is taught."""
        ids: list[int] = []
        weights: list[float] = []
        turns = 0
        for kind, text in pieces(self._protocol, question, written, inserted, self._tokenizer):
            new = self._tokenizer.encode(text)
            turns += kind is SpanKind.ACTION
            taught = kind is SpanKind.ACTION and turns > written.untaught
            ids += new
            weights += [self._weight(token) if taught else 0.0 for token in new]
        return Encoded(tuple(ids), tuple(weights))

    def _weight(self, token: int) -> float:
        return self._name_weight if token in self._name_ids else 1.0
