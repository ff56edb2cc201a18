"""The parts of rewards: plain functions from an episode to a number.

A part never looks for tags in retrieved text; what the policy wrote and what the environment inserted are
different spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps

from r1_searcher.episode.documents import passage_text
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.reward.metrics import MAX_ANSWER_WORDS, METRICS, SQUAD, counted_words, normalize_answer


@dataclass(frozen=True)
class CheckedEpisode:
    """A finished episode, and which of its reward's format rules it kept (each is checked once)."""

    trajectory: Trajectory
    protocol: Protocol
    rules: Mapping[str, bool]
    judged_right: bool | None = None
    """A judge model's verdict on the answer; None where none was asked, or it could not be reached."""


YES_OR_NO = frozenset({"yes", "no"})

Part = Callable[[CheckedEpisode], float]
"""What one part of a reward pays. A part that is made of another takes its marks over by `functools.wraps`."""


def asking_judge(part: Part) -> Part:
    """Mark a part that looks at the judge's verdict: a run that pays it demands a judge."""
    part.asks_judge = True  # type: ignore[attr-defined]
    return part


def asks_judge(part: Part) -> bool:
    """Whether the part, or one that it is made of, looks at the judge's verdict."""
    return getattr(part, "asks_judge", False)


def retrieved(episode: CheckedEpisode) -> float:
    """1 where at least one search brought documents back into the context."""
    return float(episode.trajectory.n_searches >= 1)


def answer_score(metric: str) -> Part:
    """A metric of `METRICS` on the recorded answer; 0 without one."""
    score = METRICS[metric]
    return lambda episode: score(episode.trajectory.answer, episode.trajectory.row.answers)


def short(part: Part) -> Part:
    """The part for answers of at most `MAX_ANSWER_WORDS` words, else 0: a long list covers whatever is right."""

    @wraps(part)
    def of_short(episode: CheckedEpisode) -> float:
        answer = episode.trajectory.answer
        return 0.0 if answer is None or counted_words(answer) > MAX_ANSWER_WORDS else part(episode)

    return of_short


def decided(part: Part) -> Part:
    """The part, 0 for an answer that says both yes and no: to a yes/no question it would be worth two thirds."""

    @wraps(part)
    def of_decided(episode: CheckedEpisode) -> float:
        both = YES_OR_NO.issubset(normalize_answer(episode.trajectory.answer or "", SQUAD).split())
        return 0.0 if both else part(episode)

    return of_decided


def plus_or_minus(part: Part) -> Part:
    """1 where the part is 1, else -1."""

    @wraps(part)
    def of_both(episode: CheckedEpisode) -> float:
        return 1.0 if part(episode) == 1.0 else -1.0

    return of_both


def keeps(rules: Iterable[str] = ()) -> Part:
    """The part that is 1 where these rules are kept; without names, all of the reward's."""
    names = tuple(rules)
    return lambda episode: float(all(episode.rules[name] for name in names or episode.rules))


def breaks(rules: Iterable[str] = ()) -> Part:
    """The part that is 1 where at least one of these rules is broken, however many are."""
    kept = keeps(rules)
    return lambda episode: 1.0 - kept(episode)


def gated(part: Part) -> Part:
    """The part where every rule of the reward is kept, else 0."""
    kept = keeps()

    @wraps(part)
    def of_kept(episode: CheckedEpisode) -> float:
        return part(episode) if kept(episode) else 0.0

    return of_kept


def evidence(episode: CheckedEpisode) -> float:
    """1 where a gold answer or a gold title occurs in the passages that were shown; see `holds_gold`.

    Rewards finding the fact apart from reading it.
    """
    row = episode.trajectory.row
    return float(holds_gold(shown_text(episode.trajectory, episode.protocol), (*row.answers, *row.titles)))


def shown_text(trajectory: Trajectory, protocol: Protocol) -> str:
    """What the passages that the policy was shown say."""
    return " ".join(passage_text(protocol, block.text) for block in trajectory.of_kind(SpanKind.DOCUMENTS))


def holds_gold(text: str, golds: Iterable[str]) -> bool:
    """Whether one of the golds occurs in the text, as whole words.

    A gold that is yes, no, or a single character (one digit) would occur anywhere and does not count. A common word or
    a short number still does: a title `It`, an answer `12`.
    """
    normalized = (normalize_answer(gold, SQUAD) for gold in golds)
    wanted = {gold for gold in normalized if len(gold) > 1 and gold not in YES_OR_NO}
    words = f" {normalize_answer(text, SQUAD)} "
    return any(f" {gold} " in words for gold in wanted)


def searches(episode: CheckedEpisode) -> float:
    """Number of queries; with a small negative weight, a price per search. A call with three queries is three."""
    return float(len(episode.trajectory.searches))


@asking_judge
def judged_right(episode: CheckedEpisode) -> float:
    """1 where the judge calls the answer right; where it could not be asked, exact match stands in for it.

    A judge that is down must not stop a run, and a verdict that is missing must never be better than one that is
    given: cover-EM would pay for a list of candidates.
    """
    if episode.judged_right is None:
        return METRICS["r1_searcher.em"](episode.trajectory.answer, episode.trajectory.row.answers)
    return float(episode.judged_right)


PARTS: dict[str, Part] = {
    "judge": judged_right,
    "retrieved": retrieved,
    "evidence": evidence,
    "searches": searches,
    "format_kept": keeps(),
    "format_broken": breaks(),
    "em": answer_score("r1_searcher.em"),
    "cover_em": short(answer_score("r1_searcher.cover_em")),
    "f1": answer_score("r1_searcher.f1"),
    "squad_em": answer_score("squad.em"),
    "squad_f1": decided(answer_score("squad.f1")),
    "substring": short(answer_score("squad.substring")),
    "set_f1": decided(answer_score("deep_researcher.set_f1")),
    "unicode_em": answer_score("unicode.em"),
    "unicode_cover_em": short(answer_score("unicode.cover_em")),
    "unicode_f1": answer_score("unicode.f1"),
}
"""Parts by the name that a free composition uses, such as `f1=1,format_broken=-2,searches=-0.05`.

They are the metrics but for the known tricks (docs/rewards.md): what counts coverage is 0 beyond ten words, and
"yes no" is no answer. The published rewards score as published."""
