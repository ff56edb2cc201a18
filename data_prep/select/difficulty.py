"""The difficulty of a question for a model: the number of rollouts until a right answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from foundation.errors import InputError


class Difficulty(str, Enum):
    """Classes of questions, R1-Searcher's, and one for those that need no search."""

    KNOWN = "known"
    """Answered without any search: memory, or contamination (DeepResearcher drops these)."""
    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True)
class Tries:
    """Rollouts of one question, in order, up to the first right one."""

    made: int
    right: bool
    """Whether the last of them was right."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of the classes; the defaults are R1-Searcher's (easy < 10 rollouts, medium 10 to 20, difficult > 20)."""

    easy_below: int = 10
    """Answered in fewer rollouts than this."""
    hard_above: int = 20
    """Not answered in this many."""

    def __post_init__(self) -> None:
        if not 1 <= self.easy_below <= self.hard_above:
            raise InputError(
                f"bounds must keep 1 <= easy-below <= hard-above, found {self.easy_below} and {self.hard_above}"
            )

    def check_samples(self, k: int) -> None:
        """Refuse a number of rollouts that cannot tell medium from hard. Raises `InputError`."""
        if k < self.hard_above:
            raise InputError(
                f"--k {k} rollouts cannot show that a question needs more than {self.hard_above}; give at least "
                f"--k {self.hard_above}, or a lower --hard-above"
            )

    def difficulty(self, tries: Tries) -> Difficulty:
        """The class of a question after all its rollouts with search."""
        if not tries.right or tries.made > self.hard_above:
            return Difficulty.HARD
        return Difficulty.EASY if tries.made < self.easy_below else Difficulty.MEDIUM
