"""The facts, questions and passages of the tiny world.

A passage states one fact, `Film Bugis Fevil : director Zorend Negim .`, under the entity's name as its title, or in
harder worlds all facts of an entity. A one-hop question asks for a fact, a question of more hops for a fact of another
fact's value; a comparison asks whether two facts have the same value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from random import Random
from typing import TypeVar

from data_prep.tiny.difficulty import COMPARISON, KNOWN, QUICKSTART, Dials, Kind
from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from retriever.passage import Passage

Item = TypeVar("Item")

RELATIONS: dict[str, dict[str, str]] = {
    "film": {"director": "person", "composer": "person"},
    "book": {"author": "person", "editor": "person"},
    "company": {"founder": "person", "base": "town"},
    "person": {"birthplace": "town", "home": "town"},
    "town": {"river": "river", "mayor": "person"},
}
"""Per kind of entity: its relations, and the kind that each leads to. Rivers have no facts of their own."""

WORDINGS: dict[str, tuple[str, str, str]] = {
    "director": ("director", "maker", "filmer"),
    "composer": ("composer", "musician", "tuner"),
    "author": ("author", "writer", "creator"),
    "editor": ("editor", "reviser", "corrector"),
    "founder": ("founder", "starter", "pioneer"),
    "base": ("base", "seat", "headquarters"),
    "birthplace": ("birthplace", "origin", "cradle"),
    "home": ("home", "residence", "dwelling"),
    "river": ("river", "stream", "waterway"),
    "mayor": ("mayor", "leader", "governor"),
}
"""What a question may call a relation; the first word is that of the passages."""

CHAIN = "tiny_world"
"""Source of the rows that ask for a chain; those of another kind bear its name."""

YES, NO = "yes", "no"
"""Answers of comparisons."""

FACTS_PER_ENTITY = 2
RIVERS_SHARE = 10
"""One name in so many is a river; the rest are shared evenly by the kinds that have facts."""


@dataclass(frozen=True)
class Fact:
    """`subject`, which is a `kind`, has `value` as its `relation`."""

    kind: str
    subject: str
    relation: str
    value: str

    @property
    def text(self) -> str:
        """The fact as a passage. It begins with the kind, so that a name always follows a space."""
        return text_of([self])


@dataclass(frozen=True)
class Question:
    """A chain of facts, each fact's subject the value of the one before it; or two facts that are compared."""

    facts: tuple[Fact, ...]
    words: tuple[str, ...] = ()
    """What the question calls the relations of its facts; empty: as the passages do."""
    compares: bool = False
    known: bool = False
    """Whether the base model was taught the answer by heart."""

    @property
    def text(self) -> str:
        """E.g. `What is the home of the director of the film Bugim Fevil ?`."""
        words = self.words or tuple(fact.relation for fact in self.facts)
        first = self.facts[0]
        if self.compares:
            one, other = (f"the {fact.kind} {fact.subject}" for fact in self.facts)
            return f"Do {one} and {other} have the same {words[0]} ?"
        return f"What is the {' of the '.join(reversed(words))} of the {first.kind} {first.subject} ?"

    @property
    def answer(self) -> str:
        """The value of the last fact of the chain, or yes or no."""
        if self.compares:
            return YES if self.facts[0].value == self.facts[1].value else NO
        return self.facts[-1].value

    @property
    def kind(self) -> Kind:
        """Its kind in `Dials.counts`."""
        if self.known:
            return KNOWN
        return COMPARISON if self.compares else len(self.facts)

    def worded(self, wordings: int, random: Random) -> Question:
        """The same question with one of so many words for each relation; one means those of the passages."""
        if wordings == 1:
            return self
        words = [random.choice(WORDINGS[fact.relation][:wordings]) for fact in self.facts]
        return replace(self, words=(words[0],) * len(words) if self.compares else tuple(words))

    def row(self, row_id: str) -> QARow:
        """The question as a dataset row."""
        source = f"tiny_{self.kind}" if isinstance(self.kind, str) else CHAIN
        return QARow(row_id, self.text, (self.answer,), source=source, hops=len(self.facts))


@dataclass(frozen=True)
class World:
    """All facts about the entities of one set of names."""

    facts: tuple[Fact, ...]
    together: frozenset[str] = frozenset()
    """Subjects whose facts stand in one passage."""

    @cached_property
    def by_subject(self) -> dict[str, dict[str, Fact]]:
        """Subject to relation to fact."""
        found: dict[str, dict[str, Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.subject, {})[fact.relation] = fact
        return found

    @cached_property
    def by_kind(self) -> dict[str, list[str]]:
        """Kind to the entities of that kind, in the order of the facts."""
        return {kind: list(dict.fromkeys(f.subject for f in self.facts if f.kind == kind)) for kind in RELATIONS}

    def questions(self, hops: int) -> list[Question]:
        """Every chain of so many hops, in the order of the facts; none comes back to where it has been."""
        chains: list[tuple[Fact, ...]] = [(fact,) for fact in self.facts]
        for _ in range(hops - 1):
            chains = [
                (*chain, onward)
                for chain in chains
                for onward in self.by_subject.get(chain[-1].value, {}).values()
                if onward.value not in {fact.subject for fact in chain}
            ]
        return [Question(chain) for chain in chains]

    @cached_property
    def pairs(self) -> dict[str, list[tuple[Fact, Fact]]]:
        """Every two facts of one relation, by the answer whether their values are the same."""
        by_relation: dict[str, list[Fact]] = {}
        for fact in self.facts:
            by_relation.setdefault(fact.relation, []).append(fact)
        found: dict[str, list[tuple[Fact, Fact]]] = {YES: [], NO: []}
        for facts in by_relation.values():
            for one, other in combinations(facts, 2):
                found[YES if one.value == other.value else NO].append((one, other))
        return found

    def passages(self, prefix: str) -> list[Passage]:
        """The passages in the order of the facts, with ids `prefix-00000` and on."""
        stated: dict[str | int, list[Fact]] = {}
        for number, fact in enumerate(self.facts):
            stated.setdefault(fact.subject if fact.subject in self.together else number, []).append(fact)
        return [
            Passage(f"{prefix}-{number:05d}", facts[0].subject, text_of(facts))
            for number, facts in enumerate(stated.values())
        ]


def text_of(facts: Sequence[Fact]) -> str:
    """Facts of one entity as a passage; of one fact it is `Fact.text`."""
    first = facts[0]
    stated = " , ".join(f"{fact.relation} {fact.value}" for fact in facts)
    return f"{first.kind.capitalize()} {first.subject} : {stated} ."


def draw_world(names: Sequence[str], random: Random, together: float = 0.0) -> World:
    """A world in which every name is one entity; 500 give 450 entities with 900 facts, and 50 rivers.

    Args:
        together: share of the entities whose facts stand in one passage.
    """
    shuffled = list(names)
    random.shuffle(shuffled)
    rivers, others = shuffled[: len(names) // RIVERS_SHARE], shuffled[len(names) // RIVERS_SHARE :]
    members = {kind: others[place :: len(RELATIONS)] for place, kind in enumerate(RELATIONS)} | {"river": rivers}
    facts = facts_about(members, members, random)
    joined = random.sample(others, round(together * len(others))) if together else ()
    return World(facts, frozenset(joined))


def facts_about(
    subjects: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]], random: Random
) -> tuple[Fact, ...]:
    """All facts of the subjects, by kind, each with a random value of its relation's kind."""
    return tuple(
        Fact(kind, subject, relation, _other_than(subject, values[value_kind], random))
        for kind, relations in RELATIONS.items()
        for subject in subjects[kind]
        for relation, value_kind in relations.items()
    )


def _other_than(subject: str, members: Sequence[str], random: Random) -> str:
    while (value := random.choice(members)) == subject:
        pass
    return value


def draw_questions(world: World, count: int, random: Random, difficulty: Dials = QUICKSTART) -> list[Question]:
    """`count` different questions of a world's kinds, shuffled; known facts are left to the caller's world of them.

    In the quickstart's world half of them (rounded down) are two-hop.

    Raises:
        InputError: the world does not have so many.
    """
    counts = replace(difficulty, known=0.0).counts(count)
    return worded(draw_kinds(world, counts, random), difficulty, random)


def draw_kinds(world: World, counts: Mapping[Kind, int], random: Random) -> list[Question]:
    """So many different questions of each kind, shuffled. Raises `InputError` as `draw_questions` does."""
    chosen: list[Question] = []
    for kind, wanted in counts.items():
        if kind == COMPARISON:
            pairs = sampled(world.pairs[YES], wanted // 2, "comparisons", random)
            pairs += sampled(world.pairs[NO], wanted - wanted // 2, "comparisons", random)
            chosen += [Question(pair, compares=True) for pair in pairs]
        else:
            chosen += sampled(world.questions(int(kind)), wanted, f"{kind} hop(s)", random)
    random.shuffle(chosen)
    return chosen


def sampled(available: Sequence[Item], wanted: int, what: str, random: Random) -> list[Item]:
    """So many of them. Raises `InputError` where there are fewer."""
    if wanted > len(available):
        raise InputError(f"the questions need {wanted} with {what}, the tiny world has {len(available)}: ask for fewer")
    return random.sample(available, wanted)


def worded(questions: Iterable[Question], difficulty: Dials, random: Random) -> list[Question]:
    """The questions in the words of a difficulty."""
    return [question.worded(difficulty.wordings, random) for question in questions]


def apart(questions: Iterable[Question], lists: Sequence[Mapping[Kind, int]], random: Random) -> list[list[Question]]:
    """Lists with so many questions of each kind, which share none; `questions` hold enough of each."""
    by_kind: dict[Kind, list[Question]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, []).append(question)
    found = []
    for counts in lists:
        chosen = [by_kind[kind].pop() for kind, number in counts.items() for _ in range(number)]
        random.shuffle(chosen)
        found.append(chosen)
    return found
