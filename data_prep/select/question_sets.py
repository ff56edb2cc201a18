"""From classed questions to the training sets of the stages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from data_prep.questions.sampling import shuffled
from data_prep.select.difficulty import Difficulty
from foundation.errors import InputError
from r1_searcher.episode.question import QARow

ANY_SOURCE = "*"
_QUOTA = re.compile(r"(?P<source>.+):(?P<difficulty>\w+)=(?P<count>\d+|all)")


@dataclass(frozen=True)
class Quota:
    """So many questions of one source and one class."""

    source: str
    """As the rows name it; `ANY_SOURCE` takes all."""
    difficulty: Difficulty
    count: int | None
    """None: all there are."""

    @classmethod
    def parse(cls, text: str) -> Quota:
        """Read `hotpotqa:medium=200` or `*:hard=all`. Raises `InputError`."""
        found = _QUOTA.fullmatch(text)
        if found is None or found["difficulty"] not in set(Difficulty):
            classes = ", ".join(Difficulty)
            raise InputError(f"a quota is SOURCE:CLASS=COUNT, e.g. hotpotqa:medium=200; found {text!r} ({classes})")
        count = None if found["count"] == "all" else int(found["count"])
        return cls(found["source"], Difficulty(found["difficulty"]), count)

    def __str__(self) -> str:
        return f"{self.source}:{self.difficulty.value}={'all' if self.count is None else self.count}"

    def takes(self, classed: ClassedRow) -> bool:
        """Whether a question falls under it."""
        return classed.difficulty is self.difficulty and self.source in (ANY_SOURCE, classed.row.source)


@dataclass(frozen=True)
class ClassedRow:
    """A question with its class."""

    row: QARow
    difficulty: Difficulty
    rollouts: int
    """Rollouts with search that were made: up to the first right one, or all."""
    known: bool = False
    """Whether it was answered without search."""


Plan = Mapping[str, tuple[Quota, ...]]
"""Stage -> what it is made of; no question is in two stages."""


def _plan(**stages: str) -> Plan:
    return {stage: tuple(map(Quota.parse, quotas.split())) for stage, quotas in stages.items()}


PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        # The counts of the paper and of the published files: 350 and 8,148.
        "r1_searcher": _plan(
            stage1="hotpotqa:medium=200 2wiki:medium=150",
            stage2="hotpotqa:medium=2561 hotpotqa:hard=2000 2wiki:medium=1087 2wiki:hard=2500",
        ),
        # Any other questions, in the same spirit.
        "mixed": _plan(stage1="*:medium=350", stage2="*:medium=all *:hard=all"),
    }
)


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one stage."""

    rows: tuple[QARow, ...]
    taken: Mapping[str, int]
    """Quota -> questions that it gave; fewer than it asked for where there are no more."""


def draw_question_sets(plan: Plan, classed: Sequence[ClassedRow], seed: int) -> dict[str, QuestionSet]:
    """The sets; the same for the same rows in any order."""
    order = {row.id: place for place, row in enumerate(shuffled((each.row for each in classed), seed))}
    waiting = sorted(classed, key=lambda each: order[each.row.id])
    stages: dict[str, QuestionSet] = {}
    for stage, quotas in plan.items():
        rows, taken = list[QARow](), dict[str, int]()
        for quota in quotas:
            drawn = [each for each in waiting if quota.takes(each)][: quota.count]
            gone = {each.row.id for each in drawn}
            waiting = [each for each in waiting if each.row.id not in gone]
            rows += [each.row for each in drawn]
            taken[str(quota)] = len(drawn)
        stages[stage] = QuestionSet(tuple(sorted(rows, key=lambda row: order[row.id])), taken)
    return stages
