"""Finding questions that are nearly those of a test set, exactly and without comparing all with all.

Two questions are near-duplicates where the Jaccard similarity of their sets of words (case, accents, punctuation and
order aside) reaches a threshold. No sketch is involved: every pair above it is found, through an inverted index of the
words of which such a pair must share one (prefix filtering, Chaudhuri et al., ICDE 2006).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from r1_searcher.episode.question import QARow

_NOT_WORDS = re.compile(r"[^\w\s]|_")
_ACCENTS = "Mn"


@dataclass(frozen=True)
class Thresholds:
    """Similarity from which on two questions count as the same."""

    words: float = 0.75
    """Whatever their answers. One word changed in n gives (n - 1)/(n + 1). Lower values take questions of one
    template for the same: of R1-Searcher's 8,148 training questions of stage 2, 315 reach 0.7 with one of its test
    questions ("Where did the director of film … die?"), 47 reach 0.75; 2 and 1 of them share an answer."""
    same_answer: float = 0.65
    """Where they share an answer, too: 7 of those questions; at 0.6 it would be 76, templates again."""
    one_word: int = 4
    """Common words from which on two questions that differ in a single word count as the same, for those that the first
    threshold is too high for; half as many where they share an answer."""

    def __post_init__(self) -> None:
        if self.one_word < 1:
            raise ValueError(
                f"the common words of questions that differ in one must be at least 1, found {self.one_word}"
            )
        if not 0 < self.same_answer <= self.words <= 1:
            raise ValueError(
                f"thresholds must keep 0 < same answer <= words <= 1, found {self.same_answer:g} and {self.words:g}"
            )

    @property
    def lowest(self) -> float:
        """No pair below this similarity counts as the same."""
        least = self._one_word(same_answer=True)
        return min(self.same_answer, least / (least + 2))

    def _one_word(self, same_answer: bool) -> int:
        return max(1, self.one_word // 2) if same_answer else self.one_word

    def reached(self, similarity: float, common: int, differing: int, same_answer: bool) -> bool:
        """Whether two questions count as the same.

        Args:
            common: words of both.
            differing: words of the one that the other lacks; of the two numbers the larger.
        """
        if differing <= 1 and common >= self._one_word(same_answer):
            return True
        return similarity >= (self.same_answer if same_answer else self.words)


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
    # Not `retriever.index.words`, which cuts "what's" in two: a word more or less decides here.
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(character for character in decomposed if unicodedata.category(character) != _ACCENTS)
    joined = plain.replace("'", "").replace("’", "")
    return frozenset(_NOT_WORDS.sub(" ", joined).split())


class TestIndex:
    """The test questions by their rarest words."""

    __test__ = False

    def __init__(self, tests: Sequence[TestQuestion], thresholds: Thresholds) -> None:
        self._tests = tests
        self._thresholds = thresholds
        self._words = [words_of(test.row.question) for test in tests]
        self._answers = [_answers(test.row) for test in tests]
        self._frequency = Counter(word for words in self._words for word in words)
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(self._words):
            for word in self._prefix(words):
                self._by_word[word].append(number)

    def _prefix(self, words: Iterable[str]) -> list[str]:
        """The rarest words, one of which any question above the lowest threshold must share.

        A similarity of t needs `ceil(t * n)` common words of n; among the n - that + 1 first words under one order
        of all words, two such questions have one in common.
        """
        ordered = sorted(words, key=lambda word: (self._frequency[word], word))
        return ordered[: len(ordered) - math.ceil(self._thresholds.lowest * len(ordered)) + 1]

    def match(self, row: QARow) -> Match | None:
        """The nearest test question, where one is too near; of equally near ones the first."""
        words, answers = words_of(row.question), _answers(row)
        near = {number for word in self._prefix(words) for number in self._by_word.get(word, ())}
        best, nearest = None, 0.0
        for number in sorted(near):
            theirs = self._words[number]
            common, longer = len(words & theirs), max(len(words), len(theirs))
            similarity = common / (len(words) + len(theirs) - common)
            same_answer = not answers.isdisjoint(self._answers[number])
            if similarity > nearest and self._thresholds.reached(similarity, common, longer - common, same_answer):
                best = Match(row, self._tests[number], round(similarity, 4), same_answer)
                nearest = similarity
        return best


_SAY_NOTHING = frozenset({frozenset({"yes"}), frozenset({"no"})})


def _answers(row: QARow) -> frozenset[frozenset[str]]:
    """The answers' words, yes and no left out: half of all comparisons share one."""
    return frozenset(words for answer in row.answers if (words := words_of(answer))) - _SAY_NOTHING
