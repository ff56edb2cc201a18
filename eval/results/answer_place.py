"""Where an episode could have had its answer from: what bounds a score, whatever the policy does with what it read.

Which of two films came first can be guessed from the question; a year cannot, unless a passage that was shown holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from r1_searcher.episode.protocol import Protocol
from r1_searcher.reward.metrics import SQUAD, normalize_answer
from r1_searcher.reward.parts import YES_OR_NO, holds_gold, shown_text
from r1_searcher.run.episode_record import EpisodeRecord


class AnswerPlace(StrEnum):
    """The first of these that applies."""

    YES_OR_NO = "yes or no"
    QUESTION = "in the question"
    SHOWN = "in what was shown"
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class PlaceScore:
    """The episodes whose answer could be had from one place."""

    n: int
    f1: float
    """Mean, 0 to 1; 0 without episodes."""


def place_of(record: EpisodeRecord, protocol: Protocol) -> AnswerPlace:
    """Where a gold answer stands, as whole words, for a policy that read this episode's documents."""
    if {normalize_answer(gold, SQUAD) for gold in record.golds} <= YES_OR_NO:
        return AnswerPlace.YES_OR_NO
    if holds_gold(record.row.question, record.golds):
        return AnswerPlace.QUESTION
    if holds_gold(shown_text(record.trajectory, protocol), record.golds):
        return AnswerPlace.SHOWN
    return AnswerPlace.NOWHERE


def scores_by_place(records: Iterable[EpisodeRecord], protocol: Protocol) -> Mapping[AnswerPlace, PlaceScore]:
    """How many episodes each place has, and how well they were answered, failed ones left out.

    Every place has an entry.
    """
    f1: dict[AnswerPlace, list[float]] = {place: [] for place in AnswerPlace}
    for record in (each for each in records if not each.failed):
        f1[place_of(record, protocol)].append(record.metrics["answer/f1"])
    return {place: PlaceScore(len(values), fmean(values) if values else 0.0) for place, values in f1.items()}
