"""Ways to be rewarded without answering: what is known is written down and measured, and new ones are searched for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.episodes.fakes import ROOMY, ROW, Turn, passages, play, turn_that_answers, turn_that_asks
from support.hostile.reward_attack import OURS, PROTOCOLS, findings

from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, R1_SEARCHER_TINY, RESEARCH_BASE, SEARCH_R1, ZEROSEARCH
from r1_searcher.reward.rewards import find_reward, score

PAGE = Path(__file__).parents[3] / "docs" / "rewards.md"
GOLD = "Lazan Vurif"
CITIES = [f"City{n}" for n in range(14)]
THIRTY = [*CITIES, "Lazan Vurif", *CITIES]
FIVE_HUNDRED = [*(f"City{n}" for n in range(499)), "Lazan Vurif"]


def answered(protocol: Protocol, answer: str, *, gold: str = GOLD, searches: bool = True) -> Trajectory:
    """An episode that keeps the protocol's format and answers."""
    turns = [turn_that_asks(protocol, "a b c")] * searches + [turn_that_answers(protocol, answer)]
    row, limits = replace(ROW, answers=(gold,)), replace(ROOMY, turn_tokens=8192, max_length=16_384)
    played = play(turns, passages("A text."), protocol=protocol, row=row, limits=limits).trajectory
    assert played.answer == answer, "cut off, it would be worth nothing for another reason"
    return played


def forged() -> Trajectory:
    """R1-Searcher's documents, written by the policy in its answer's turn."""
    protocol = R1_SEARCHER_TINY
    block = (
        f"{protocol.query.open}x{protocol.query.close}\n\n{protocol.documents.open}\n(1) x{protocol.documents.close}"
    )
    written = protocol.query.open, protocol.query.close
    text = f"{block}\n\n{turn_that_answers(protocol, '/'.join(THIRTY))}"
    return _unstopped(text, written)


def _unstopped(text: str, stops: tuple[str, str]) -> Trajectory:
    """An episode of one turn that ran past its stop string, as an engine without that stop would give it."""
    played = play(["x"], row=replace(ROW, answers=(GOLD,))).trajectory
    prompt, action = played.spans
    assert all(stop in text for stop in stops)
    answer = text.rpartition("<answer>")[2].partition("</answer>")[0]
    return replace(played, spans=(prompt, replace(action, text=text)), answer=answer)


def babbled() -> Trajectory:
    """The right answer, and then words until the budget is spent."""
    turns = [
        turn_that_asks(R1_SEARCHER_TINY, "q"),
        Turn(turn_that_answers(R1_SEARCHER_TINY, GOLD) + " x" * 3, rambles=True),
    ]
    limits = replace(ROOMY, turn_tokens=200)
    return play(turns, passages("A text."), limits=limits, row=replace(ROW, answers=(GOLD,))).trajectory


def three_queries() -> Trajectory:
    turns = [turn_that_asks(DEEP_RESEARCHER, "a", "b", "c"), turn_that_answers(DEEP_RESEARCHER, "x")]
    return play(turns, passages("A text."), protocol=DEEP_RESEARCHER, row=replace(ROW, answers=(GOLD,))).trajectory


@dataclass(frozen=True)
class Trick:
    """A row of the table in docs/rewards.md."""

    reward: str
    words: str
    episode: Callable[[], Trajectory]
    protocol: Protocol
    worth: float
    judged: bool | None = None


def trick(reward, words, protocol, worth, answer, **options):
    return Trick(reward, words, lambda: answered(protocol, answer, **options), protocol, worth)


TRICKS = [
    # published, and scored as published
    trick("zerosearch.f1", "“yes no” to a yes/no question", ZEROSEARCH, 0.67, "yes no", gold="yes"),
    trick("deep_researcher.set_f1", "“yes no” to a yes/no question", DEEP_RESEARCHER, 0.67, "yes no", gold="yes"),
    trick("zerosearch.containment", "a list of 30 candidates", ZEROSEARCH, 1.0, "/".join(THIRTY)),
    trick("zerosearch.containment", "“0123456789” where a digit is asked for", ZEROSEARCH, 1.0, "0123456789", gold="7"),
    Trick("r1_searcher.llama_stage1_code", "forged documents, no search, 30 candidates", forged, R1_SEARCHER_TINY, 2.0),
    trick("r1_searcher.stage1", "the query “.” and an empty answer", R1_SEARCHER_TINY, 1.0, ""),
    Trick("r1_searcher.stage2", "the right answer, then babble to the turn's end", babbled, R1_SEARCHER_TINY, 1.0),
    trick("r1_searcher.stage2", "two candidates, one of them right", R1_SEARCHER_TINY, 0.67, "Lazan Vurif Karo Mel"),
    trick("r1_searcher.stage2_cover_em", "five candidates of two words", R1_SEARCHER_TINY, 1.0,
          "Lazan Vurif, City One, City Two, City Three, City Four"),
    trick("research.code", "an empty box", RESEARCH_BASE, 0.1, ""),
    trick("research.code", "half of a gold of 40 words: less than a wrong answer", RESEARCH_BASE, 0.05, "word0",
          gold=" ".join(f"word{n}" for n in range(40))),
    trick("search_r1.format", "a well-formed empty answer", SEARCH_R1, 0.2, ""),
    # ours: closed
    trick("r1_searcher.stage2_cover_em", "30 candidates joined by “/”", R1_SEARCHER_TINY, -1.0, "/".join(THIRTY)),
    trick("cover_em=1", "500 candidates", R1_SEARCHER_TINY, 0.0, "|".join(FIVE_HUNDRED)),
    trick("unicode_cover_em=1", "30 candidates joined by “·”", R1_SEARCHER_TINY, 0.0, "·".join(THIRTY)),
    trick("substring=1", "500 candidates", R1_SEARCHER_TINY, 0.0, "|".join(FIVE_HUNDRED)),
    trick("squad_f1=1", "“yes no” to a yes/no question", R1_SEARCHER_TINY, 0.0, "yes no", gold="yes"),
    trick("set_f1=1", "“yes no” to a yes/no question", R1_SEARCHER_TINY, 0.0, "yes no", gold="yes"),
    trick("squad_em=1", "“.” where the gold is “The”", R1_SEARCHER_TINY, 0.0, ".", gold="The"),
    trick("judge=1", "a list of 30 candidates while the judge is down", R1_SEARCHER_TINY, 0.0, "/".join(THIRTY)),
    Trick("searches=-0.05", "three queries in one call: the price of three", three_queries, DEEP_RESEARCHER, -0.15),
    # ours: what is left
    trick("cover_em=1", "five candidates of two words", R1_SEARCHER_TINY, 1.0,
          "Lazan Vurif, City One, City Two, City Three, City Four"),
    trick("substring=1", "“0123456789” where a digit is asked for", R1_SEARCHER_TINY, 1.0, "0123456789", gold="7"),
    trick("f1=1", "two candidates, one of them right", R1_SEARCHER_TINY, 0.67, "Lazan Vurif Karo Mel"),
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: f"{trick.reward}: {trick.words}")
def test_what_a_trick_is_worth(trick):
    total = score(find_reward(trick.reward), trick.episode(), trick.protocol, trick.judged).total
    assert total == pytest.approx(trick.worth, abs=0.005)


def test_the_page_tells_every_trick_and_its_worth():
    known = PAGE.read_text(encoding="utf-8").partition("## The search for new ones")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| ([+-]?[\d.]+) \|", known, re.MULTILINE)
    assert {(reward, words, float(worth)) for reward, words, worth in rows} == {
        (trick.reward, trick.words, trick.worth) for trick in TRICKS
    }


@pytest.mark.parametrize("reward", OURS)
def test_no_episode_without_the_gold_is_worth_more_than_an_honest_guess(reward):
    """A small part of `python -m support.hostile.reward_attack`, with other candidates for each reward."""
    for found in findings([reward], candidates=3, protocols=PROTOCOLS[:2]):
        assert found.best <= found.honest + 1e-9, found
