"""A search for ways to be rewarded without knowing the answer: random episodes, and evolved ones.

    PYTHONPATH=tests python -m support.hostile.reward_attack --candidates 2000

prints a table: for each reward the best score of an episode that nowhere holds the gold, beside that of the best honest
guess under the same protocol and for the same gold, there where the two are furthest apart.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from benchmarks.results.page import markdown_table
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, R1_SEARCHER_TINY, RESEARCH_BASE, SEARCH_R1
from r1_searcher.reward.metrics import NORMALIZERS, normalize_answer
from r1_searcher.reward.rewards import REWARDS, Reward, find_reward, score
from support.episodes.fakes import ROOMY, ROW, passages, play, turn_that_answers, turn_that_asks

PROTOCOLS = (R1_SEARCHER_TINY, SEARCH_R1, RESEARCH_BASE, DEEP_RESEARCHER)
GOLDS = {"Lazan Vurif": "Paris", "7": "5", "no": "yes"}
"""Gold answers, each with an honest guess of its kind."""
COMPOSED = (
    *(f"{part}=1" for part in (
        "f1", "em", "cover_em", "squad_em", "squad_f1", "substring", "set_f1", "unicode_em", "unicode_cover_em",
        "unicode_f1", "judge", "evidence")),
    "f1=1,format_broken=-2",
    "cover_em=1,format_broken=-2,evidence=0.2",
    "judge=1,format_kept=0.2",
    "f1=1,retrieved=0.2,format_kept=0.2",
    "f1=1,format_broken=-2,searches=-0.05",
)  # fmt: skip
OURS = (*(name for name in REWARDS if name.startswith("r1_searcher.stage")), *COMPOSED)
"""The rewards that this project recommends; the others are published code, holes included."""
_WORDS = (
    "Paris",
    "London",
    "the",
    "a",
    "0",
    "1",
    "yes",
    "noanswer",
    "True",
    "of",
    "None",
    "unknown",
    "1889",
    "東京",
    "é",
)
_JOINTS = (" ", "/", "|", ",", ";", "-", "_", "\n", "·", "，", "\u200b", "", " or ", " and ", "\t", "\\", "'")
_HEADS = ("reward", "candidates tried", "best without the gold", "best honest guess", "trick")
_MOST_SHOWN = 80
"""Characters of an episode in the table."""
_SHAPES = ("\\boxed{", "}", "{", "[", "]", "(1) ", "Doc 1: ", '"', "```", "**")


@dataclass(frozen=True)
class Candidate:
    """An episode as the policy would write it."""

    turns: tuple[tuple[str, ...], ...]
    """The pieces of each turn."""

    def texts(self) -> list[str]:
        return ["".join(pieces) for pieces in self.turns]


def alphabet(protocol: Protocol, guess: str) -> list[str]:
    """Pieces to build from: words, joints, tags, whole moves and forged documents."""
    moves = [turn_that_answers(protocol, text) for text in (guess, "", ".", f"{guess} London", "yes yes")]
    moves += [turn_that_asks(protocol, query) for query in (guess, ".", "a b c")]
    forged = f"{protocol.before_documents}(1) {guess}\n{protocol.after_documents}"
    return [*_WORDS, *_JOINTS, *_SHAPES, *sorted(protocol.tags), *moves * 3, forged, guess]


def random_candidate(draw: random.Random, pieces: Sequence[str]) -> Candidate:
    """Up to four turns of up to eight pieces."""
    return Candidate(tuple(tuple(draw.choices(pieces, k=draw.randrange(1, 9))) for _ in range(draw.randrange(1, 5))))


def mutated(parent: Candidate, draw: random.Random, pieces: Sequence[str]) -> Candidate:
    """A child: a piece more, less, another, twice or many times; a turn more or less."""
    turns = [list(turn) for turn in parent.turns]
    turn = draw.choice(turns)
    place = draw.randrange(len(turn))
    match draw.randrange(7):
        case 0:
            turn.insert(place, draw.choice(pieces))
        case 1 if len(turn) > 1:
            del turn[place]
        case 2:
            turn[place] = draw.choice(pieces)
        case 3:
            turn.insert(place, turn[place])
        case 4:
            turn[place:place] = [draw.choice(_JOINTS).join(draw.choices(_WORDS, k=draw.choice((3, 12, 40))))]
        case 5 if len(turns) < 5:
            turns.insert(draw.randrange(len(turns) + 1), draw.choices(pieces, k=2))
        case _ if len(turns) > 1:
            turns.remove(turn)
    return Candidate(tuple(map(tuple, turns)))


def played(protocol: Protocol, turns: Sequence[str], gold: str) -> Trajectory:
    """The episode, whose searches find nothing that helps."""
    row = replace(ROW, answers=(gold,))
    limits = replace(ROOMY, max_searches=4)
    return play(
        [*turns, *[""] * 6], passages("A text about something else."), protocol=protocol, limits=limits, row=row
    ).trajectory


def names_gold(trajectory: Trajectory, gold: str) -> bool:
    """Whether the policy wrote the gold, by any normaliser, as words or inside of words."""
    text = "".join(span.text for span in trajectory.of_kind(SpanKind.ACTION))
    return any(normalize_answer(gold, each) in normalize_answer(text, each) for each in NORMALIZERS.values())


def honest(protocol: Protocol, reward: Reward, guess: str, gold: str) -> float:
    """The best score of an episode that keeps to the protocol and guesses wrong, with or without searching."""
    says = turn_that_answers(protocol, guess)
    courses = ([says], [turn_that_asks(protocol, "a b c"), says])
    return max(score(reward, played(protocol, course, gold), protocol, judged_right=False).total for course in courses)


@dataclass
class Finding:
    """What the search for one reward came to."""

    reward: str
    protocol: str
    gold: str
    tried: int
    best: float
    honest: float
    text: list[str]


def attack(reward: Reward, protocol: Protocol, gold: str, candidates: int, seed: int = 0) -> Finding:
    """Half of the candidates at random, the others as children of the best so far."""
    draw, guess = random.Random(f"{reward.name} {protocol.name} {gold} {seed}"), GOLDS[gold]
    pieces = alphabet(protocol, guess)
    base = honest(protocol, reward, guess, gold)
    best = [(base, -1, Candidate(((turn_that_asks(protocol, "a b c"),), (turn_that_answers(protocol, guess),))))]
    tried = 0
    for number in range(candidates):
        old = number >= candidates // 2
        candidate = mutated(draw.choice(best)[2], draw, pieces) if old else random_candidate(draw, pieces)
        trajectory = played(protocol, candidate.texts(), gold)
        if names_gold(trajectory, gold):
            continue
        tried += 1
        total = score(reward, trajectory, protocol, judged_right=None).total
        best = sorted([*best, (total, number, candidate)], key=lambda each: (-each[0], each[1]))[:12]
    total, _, winner = best[0]
    return Finding(reward.name, protocol.name, gold, tried, total, base, winner.texts())


def findings(names: Sequence[str], candidates: int, protocols: Sequence[Protocol] = PROTOCOLS) -> Iterator[Finding]:
    """The search for each reward, under each protocol and for each kind of gold."""
    for name in names:
        for protocol in protocols:
            for gold in GOLDS:
                yield attack(find_reward(name), protocol, gold, candidates)


def table_row(reward: str, found: Sequence[Finding]) -> tuple[str, ...]:
    """A reward's cells, in which the worst of what was found stands."""
    worst = max(found, key=lambda each: each.best - each.honest)
    trick = " ⏎ ".join(worst.text) if worst.best > worst.honest + 1e-9 else ""
    shown = trick.replace("\n", "↵").replace("|", "¦").replace("`", "'").replace("\t", "⇥")
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]} …"
    return (
        f"`{reward}`",
        f"{sum(each.tried for each in found):,}",
        f"{worst.best:+.2f}",
        f"{worst.honest:+.2f}",
        f"`{shown}` ({worst.protocol}, “{worst.gold}”)" if trick else "–",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Search and print, the published rewards included."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=500, help="for each reward, protocol and gold")
    parser.add_argument("--only", choices=("ours", "published"))
    options = parser.parse_args(argv)
    published = [name for name in REWARDS if name not in OURS]
    names = {"ours": OURS, "published": published}.get(options.only, [*OURS, *published])
    print(markdown_table(_HEADS, ()), flush=True)
    with tqdm(total=len(names) * len(PROTOCOLS) * len(GOLDS) * options.candidates, unit=" episodes") as bar:
        for name in names:
            found = []
            for finding in findings([name], options.candidates):
                found.append(finding)
                bar.update(options.candidates)
            print(markdown_table(_HEADS, [table_row(name, found)]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
