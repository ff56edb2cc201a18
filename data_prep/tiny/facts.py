"""The facts, questions and passages of the tiny world.

Every passage states one fact, `Film Bugis Fevil : director Zorend Negim .`, under the entity's name as its
title. A one-hop question asks for a fact, a two-hop question for a fact of another fact's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from retriever.passage import Passage

RELATIONS: dict[str, dict[str, str]] = {
    "film": {"director": "person", "composer": "person"},
    "book": {"author": "person", "editor": "person"},
    "company": {"founder": "person", "base": "town"},
    "person": {"birthplace": "town", "home": "town"},
    "town": {"river": "river", "mayor": "person"},
}
"""Per kind of entity: its relations, and the kind that each leads to. Rivers have no facts of their own."""

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
        return f"{self.kind.capitalize()} {self.subject} : {self.relation} {self.value} ."


@dataclass(frozen=True)
class Question:
    """A chain of one or two facts: each fact's subject is the value of the one before it."""

    facts: tuple[Fact, ...]

    @property
    def text(self) -> str:
        """E.g. `What is the home of the director of the film Bugim Fevil ?`."""
        first = self.facts[0]
        relations = " of the ".join(fact.relation for fact in reversed(self.facts))
        return f"What is the {relations} of the {first.kind} {first.subject} ?"

    @property
    def answer(self) -> str:
        """The value of the last fact of the chain."""
        return self.facts[-1].value

    def row(self, row_id: str) -> QARow:
        """The question as a dataset row."""
        return QARow(row_id, self.text, (self.answer,), source="tiny_world", hops=len(self.facts))


@dataclass(frozen=True)
class World:
    """All facts about the entities of one set of names."""

    facts: tuple[Fact, ...]

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
        """Every question of so many hops (1 or 2), in the order of the facts."""
        if hops == 1:
            return [Question((fact,)) for fact in self.facts]
        return [
            Question((fact, onward))
            for fact in self.facts
            for onward in self.by_subject.get(fact.value, {}).values()
            if onward.value != fact.subject
        ]

    def passages(self, prefix: str) -> list[Passage]:
        """One passage per fact, with ids `prefix-00000` and on."""
        return [Passage(f"{prefix}-{n:05d}", fact.subject, fact.text) for n, fact in enumerate(self.facts)]


def draw_world(names: Sequence[str], random: Random) -> World:
    """A world in which every name is one entity; 500 give 450 entities with 900 facts, and 50 rivers."""
    shuffled = list(names)
    random.shuffle(shuffled)
    rivers, others = shuffled[: len(names) // RIVERS_SHARE], shuffled[len(names) // RIVERS_SHARE :]
    members = {kind: others[place :: len(RELATIONS)] for place, kind in enumerate(RELATIONS)} | {"river": rivers}
    facts = [
        Fact(kind, subject, relation, _other_than(subject, members[value_kind], random))
        for kind, relations in RELATIONS.items()
        for subject in members[kind]
        for relation, value_kind in relations.items()
    ]
    return World(tuple(facts))


def _other_than(subject: str, members: Sequence[str], random: Random) -> str:
    while (value := random.choice(members)) == subject:
        pass
    return value


def draw_questions(world: World, count: int, random: Random) -> list[Question]:
    """`count` different questions, half of them (rounded down) two-hop, shuffled.

    Raises:
        InputError: the world does not have so many.
    """
    chosen: list[Question] = []
    for hops, wanted in ((1, count - count // 2), (2, count // 2)):
        available = world.questions(hops)
        if wanted > len(available):
            raise InputError(
                f"{count} questions need {wanted} with {hops} hop(s), the tiny world has {len(available)}: "
                "ask for fewer"
            )
        chosen += random.sample(available, wanted)
    random.shuffle(chosen)
    return chosen
