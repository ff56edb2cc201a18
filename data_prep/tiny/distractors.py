"""What harder tiny worlds hold beside the facts that are asked for: namesakes, and facts that are known by heart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Literal

from data_prep.tiny.difficulty import Dials
from data_prep.tiny.facts import RELATIONS, RIVERS_SHARE, Question, World, draw_world, facts_about, sampled
from data_prep.tiny.names import pool
from foundation.errors import InputError

Side = Literal["rl", "evaluation"]
SIDES: tuple[Side, ...] = ("rl", "evaluation")

KNOWN_NAMES = 60
"""Names of either side's known facts: 54 entities with 108 facts. They are taken from the end of the SFT pool."""


@cache
def known_facts(side: Side) -> World:
    """The facts of one side that a base model is taught by heart: the same for every seed, as the base is."""
    last = pool("sft")[-2 * KNOWN_NAMES :]
    names = last[:KNOWN_NAMES] if side == "rl" else last[KNOWN_NAMES:]
    return draw_world(names, Random(f"known {side}"))


def known_questions(side: Side, count: int, random: Random) -> list[Question]:
    """So many different questions about known facts. Raises `InputError` where there are fewer facts."""
    facts = sampled(known_facts(side).facts, count, "facts known by heart", random)
    return [Question((fact,), known=True) for fact in facts]


def free_names(difficulty: Dials) -> tuple[str, ...]:
    """Names of the SFT pool about which a base model knows nothing by heart."""
    names = pool("sft")
    return names[: -2 * KNOWN_NAMES] if difficulty.known else names


def namesakes(worlds: Sequence[World], names: Sequence[str], per_entity: int, random: Random) -> World:
    """Entities of other names with facts of their own, so many per entity, that share its kind and first word.

    Raises:
        InputError: too few of `names` begin with some word.
    """
    free: dict[str, list[str]] = {}
    for name in random.sample(names, len(names)):
        free.setdefault(name.split()[0], []).append(name)
    members: dict[str, list[str]] = {}
    for kind in RELATIONS:
        wanted = [subject.split()[0] for world in worlds for subject in world.by_kind[kind] for _ in range(per_entity)]
        if short := sorted({word for word in wanted if len(free.get(word, ())) < wanted.count(word)}):
            raise InputError(
                f"{per_entity} namesakes of every entity are more than names begin with {', '.join(short)}"
            )
        members[kind] = [free[word].pop() for word in wanted]
    left = [name for group in free.values() for name in group]
    rivers = random.sample(left, max(2, len(members["town"]) // RIVERS_SHARE))
    return World(facts_about(members, members | {"river": rivers}, random))
