"""Fictional names: the words, the three fixed pools, and an endless supply for larger corpora.

A name is a first and a second word. The tiny base model knows the 160 words (each is one token of its
tokenizer), so the words and the pools belong to the model: they are constants here and do not move with a
world's seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from random import Random
from typing import Literal

Pool = Literal["sft", "rl", "evaluation"]

WORDS_PER_POSITION = 80
POOL_SIZES: dict[Pool, int] = {"sft": 5400, "rl": 500, "evaluation": 500}
"""Names per pool; together every combination of a first with a second word."""

_WORDS_SEED = 20
_CONSONANTS = "bdfgklmnprtvz"
_VOWELS = "aeiou"
_TAKEN = frozenset({"river", "mayor", "fagot", "nigel", "rapes", "raped", "rapid", "naked", "negro"})
"""Words of the world itself, and words that a generator had better not produce."""


@cache
def name_words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The first and the second words, e.g. `Vekal` and `Pubak`: five letters each.

    The first four letters are unique to each, which keeps the words apart for a retriever that stems.
    """
    random = Random(_WORDS_SEED)
    words: list[str] = []
    beginnings: set[str] = set()
    while len(words) < 2 * WORDS_PER_POSITION:
        letters = [random.choice(_VOWELS if place % 2 else _CONSONANTS) for place in range(5)]
        word = "".join(letters)
        if word[:4] not in beginnings and word not in _TAKEN:
            beginnings.add(word[:4])
            words.append(word.capitalize())
    return tuple(words[:WORDS_PER_POSITION]), tuple(words[WORDS_PER_POSITION:])


@cache
def pool(name: Pool) -> tuple[str, ...]:
    """The names of a pool. No name is in two pools; every single word is in all of them or may be."""
    first, second = name_words()
    names = [f"{one} {two}" for one in first for two in second]
    Random(_WORDS_SEED).shuffle(names)
    start = 0
    for other, size in POOL_SIZES.items():
        if other == name:
            return tuple(names[start : start + size])
        start += size
    raise ValueError(f"no such pool: {name!r} (known: {', '.join(POOL_SIZES)})")


def background_names(count: int) -> list[str]:
    """`count` distinct names of six-letter words that are in no pool: filler for corpora of any size."""
    return list(islice(_pairs(_background_words()), count))


@cache
def _background_words() -> list[str]:
    """Some 275,000, whose shuffling takes longer than all else that a world needs."""
    syllables = [consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS]
    words = [a + b + c for a in syllables for b in syllables for c in syllables]
    Random(_WORDS_SEED).shuffle(words)
    return words


def _pairs(words: list[str]) -> Iterator[str]:
    """Each word with its right neighbour, then with the one after that: all are about equally frequent."""
    for step in range(1, len(words)):
        for place, word in enumerate(words):
            yield f"{word.capitalize()} {words[(place + step) % len(words)].capitalize()}"
