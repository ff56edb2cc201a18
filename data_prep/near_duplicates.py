"""Finding questions that are nearly those of a test set, exactly and without comparing all with all.

Two questions are near-duplicates where their words are the same (case, accents, punctuation and order aside), or the
Jaccard similarity of their sets of words reaches a threshold.  No sketch is involved: every pair above the threshold is
found, through an inverted index of the words that such a pair must share (prefix filtering, Chaudhuri et al., ICDE 2006).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from r1_searcher.question import QARow

_NOT_WORDS = re.compile(r"[^\w\s]|_")
_ACCENTS = "Mn"


@dataclass(frozen=True)
class Thresholds:
    """Similarity from which on two questions count as the same."""

    words: float = 0.7
    """Whatever their answers.  One word changed gives 5/7 in a question of six words, (n - 1)/(n + 1) in one of n."""
    same_answer: float = 0.5
    """Where they share an answer, too: one word changed in a question of three words, a third of longer ones."""

    def __post_init__(self) -> None:
        if not 0 < self.same_answer <= self.words <= 1:
            raise ValueError(
                f"thresholds must keep 0 < same answer <= words <= 1, found {self.same_answer:g} and {self.words:g}"
            )


@dataclass(frozen=True)
class TestQuestion:
    """A question that must not be trained on."""

    __test__ = False  # pytest would take the class for a test

    file: str
    row: QARow


@dataclass(frozen=True)
class Match:
    """A training question and the test question that it is too near to."""

    row: QARow
    test: TestQuestion
    similarity: float
    """Of their words, 0..1; 1 is the same words."""
    same_answer: bool


@lru_cache(maxsize=1 << 16)
def words_of(text: str) -> frozenset[str]:
    """The words of a text, without case, accents, punctuation, and apostrophes inside of words."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(character for character in decomposed if unicodedata.category(character) != _ACCENTS)
    joined = plain.replace("'", "").replace("’", "")
    return frozenset(_NOT_WORDS.sub(" ", joined).split())


class TestIndex:
    """The test questions by their rarest words."""

    __test__ = False

    def __init__(self, tests: Sequence[TestQuestion], thresholds: Thresholds) -> None:
        self._tests = tests
        self._least = thresholds
        self._words = [words_of(test.row.question) for test in tests]
        self._answers = [_answers(test.row) for test in tests]
        self._frequency = Counter(word for words in self._words for word in words)
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(self._words):
            for word in self._prefix(words):
                self._by_word[word].append(number)

    def _prefix(self, words: Iterable[str]) -> list[str]:
        """The rarest words, one of which any question above the lower threshold must share.

        A similarity of t needs ``ceil(t * n)`` common words of n; among the n - that + 1 first words under one order
        of all words, two such questions have one in common.
        """
        ordered = sorted(words, key=lambda word: (self._frequency[word], word))
        return ordered[: len(ordered) - math.ceil(self._least.same_answer * len(ordered)) + 1]

    def match(self, row: QARow) -> Match | None:
        """The nearest test question, where one is too near; of equally near ones the first."""
        words, answers = words_of(row.question), _answers(row)
        near = {number for word in self._prefix(words) for number in self._by_word.get(word, ())}
        best: Match | None = None
        for number in sorted(near):
            common = len(words & self._words[number])
            similarity = common / (len(words) + len(self._words[number]) - common)
            same_answer = not answers.isdisjoint(self._answers[number])
            least = self._least.same_answer if same_answer else self._least.words
            if similarity >= least and (best is None or similarity > best.similarity):
                best = Match(row, self._tests[number], round(similarity, 4), same_answer)
        return best


_SAY_NOTHING = frozenset({frozenset({"yes"}), frozenset({"no"})})


def _answers(row: QARow) -> frozenset[frozenset[str]]:
    """The answers' words, yes and no left out: half of all comparisons share one."""
    return frozenset(words for answer in row.answers if (words := words_of(answer))) - _SAY_NOTHING
