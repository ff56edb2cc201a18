"""Where an episode could have had its answer from."""

from __future__ import annotations

import pytest
from support.runs.reports import RECIPE, SEARCHED, WRONG, episode, failed

from eval.results.answer_place import AnswerPlace, PlaceScore, place_of, scores_by_place
from r1_searcher.episode.question import QARow
from r1_searcher.run.episode_record import EpisodeRecord


def played(question, *golds, turns=SEARCHED):
    """An episode that read "The tower is in Paris." and "Paris is a town." where it searched."""
    return EpisodeRecord(episode(turns, of=QARow("q", question, golds)))


@pytest.mark.parametrize(
    ("question", "golds", "place"),
    [
        ("Is the tower in Paris?", ("Yes",), AnswerPlace.YES_OR_NO),
        ("Is the tower in Paris?", ("yes", "Yes, it is"), AnswerPlace.NOWHERE),
        ("Which is older, Paris or Rome?", ("paris",), AnswerPlace.QUESTION),
        ("Where is the tower?", ("Paris",), AnswerPlace.SHOWN),
        ("Where is the tower?", ("London", "a town"), AnswerPlace.SHOWN),
        ("Where is the tower?", ("London",), AnswerPlace.NOWHERE),
        ("Who is the artist?", ("art",), AnswerPlace.NOWHERE),
        ("How many are in group 7?", ("7",), AnswerPlace.NOWHERE),
    ],
)
def test_the_first_place_that_applies(question, golds, place):
    assert place_of(played(question, *golds), RECIPE.protocol) is place


def test_what_the_policy_wrote_is_not_what_it_was_shown():
    record = played("Where is the tower?", "London", turns=WRONG)
    assert record.trajectory.answer == "London"
    assert place_of(record, RECIPE.protocol) is AnswerPlace.NOWHERE
    assert place_of(played("Where is the tower?", "tower town"), RECIPE.protocol) is AnswerPlace.NOWHERE, "its query"


def test_scores_by_place_leave_out_what_failed():
    where = "Where is the tower?"
    records = [played(where, "Paris"), played(where, "Paris in France"), played(where, "Rome"), EpisodeRecord(failed())]
    found = scores_by_place(records, RECIPE.protocol)
    assert list(found) == list(AnswerPlace) and sum(score.n for score in found.values()) == 3
    assert found[AnswerPlace.SHOWN] == PlaceScore(1, 1.0)
    assert found[AnswerPlace.NOWHERE] == PlaceScore(2, 0.25), "1 of 3 gold words, and none"
    assert found[AnswerPlace.QUESTION] == PlaceScore(0, 0.0)
