"""The claims, and how each is measured. A primary comparison was fixed before the runs that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.findings.arms import Arm, find_arm
from benchmarks.findings.corpora import PLAIN
from benchmarks.findings.measures import F1, GREEDY_F1, SEARCHES, Curve, HeldOut, Measure
from foundation.errors import InputError

SEEDS = (10, 11, 12, 13, 14)
"""Nothing was chosen on these but one thing: `top_k` got a base of its own after a first look at seed 10."""

R1_SEARCHER = "[R1-Searcher](https://arxiv.org/abs/2503.05592)"
SEARCH_R1 = "[Search-R1](https://arxiv.org/abs/2503.09516)"
ZEROSEARCH = "[ZeroSearch](https://arxiv.org/abs/2505.04588)"
EMPIRICAL = "[Search-R1's empirical study](https://arxiv.org/abs/2505.15117)"
REEXAMINED = "[Search-R1, re-examined](https://jinyansu1.github.io/blog/2026/05/search-r1-does-the-model-actually-learn-to-search/)"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what is measured of which arm."""

    arm: str
    measure: Measure = F1


@dataclass(frozen=True)
class Contrast:
    """`one` minus `other`, seed by seed."""

    name: str
    one: Side
    other: Side
    claimed: int
    """What is published: 1 that `one` is above, -1 below, 0 that they do not differ."""


@dataclass(frozen=True)
class PublishedFinding:
    """A published claim."""

    name: str
    question: str
    source: str
    """With figure, table or section where it is known for sure."""
    published: str
    """The claim, with its figures where the source gives some."""
    primary: Contrast
    """Decides the verdict."""
    others: tuple[Contrast, ...] = ()
    curves: tuple[str, ...] = ("answer/f1", "retrieval/searches")
    """Metrics of training in its picture."""
    missing: str = ""
    """What of the question no arm can express yet."""
    real_variant: str = ""
    """Of `train_scripts/real.sh`: what its first settings stand against, as `primary` compares `one` with `other`."""

    @property
    def arms(self) -> list[Arm]:
        """Every arm that it compares, with the teachers of those that have one."""
        names = dict.fromkeys(side.arm for side in self._sides)
        teachers = [find_arm(name).taught_by for name in names]
        return [find_arm(name) for name in dict.fromkeys([*filter(None, teachers), *names])]

    @property
    def corpora(self) -> list[str]:
        """Every corpus that its arms are evaluated on, the world's own first."""
        measured = [side.measure.corpus for side in self._sides if isinstance(side.measure, HeldOut)]
        return list(dict.fromkeys([PLAIN, *measured]))

    @property
    def _sides(self) -> list[Side]:
        return [side for each in (self.primary, *self.others) for side in (each.other, each.one)]


def _f1(name: str, one: str, other: str, claimed: int, measure: Measure = F1) -> Contrast:
    return Contrast(name, Side(one, measure), Side(other, measure), claimed)


_SEARCHED_LAST = Curve("retrieval/searches", 0.85, 1.0)
_SEARCHED_EARLY = Curve("retrieval/searches", 0.16, 0.3)
_F1_EARLY = Curve("answer/f1", 0.2, 0.5)
_TOKENS_FIRST = Curve("tokens/action", 0.0, 0.1)
_TOKENS_EARLY = Curve("tokens/action", 0.16, 0.3)
_TOKENS_LAST = Curve("tokens/action", 0.85, 1.0)
_WEB = HeldOut(corpus="web_like")
_NOISY = HeldOut(corpus="noisy")

_ROWS = (
    PublishedFinding(
        "stages",
        "Are two stages better than stage 2 alone?",
        f"{R1_SEARCHER}, two-stage RL of Llama; its Qwen starts without a stage 1",
        "stage 1 first makes the model search; without it a base that does not search learns less",
        _f1("two stages - stage 2 alone", "two_stages", "stage2", 1),
        (
            _f1("the same, base that searches", "searching_two_stages", "searching_stage2", 1),
            _f1("searches", "two_stages", "stage2", 1, SEARCHES),
            _f1("greedy", "two_stages", "stage2", 1, GREEDY_F1),
        ),
        real_variant="one_reward",
    ),
    PublishedFinding(
        "mask",
        "Does it help to mask the documents out of the loss?",
        f"{SEARCH_R1}, table 4; {ZEROSEARCH}",
        "average EM of seven sets: 0.431 with the mask, 0.343 without; ZeroSearch 36.1 and 34.5",
        _f1("masked - not masked", "mask", "no_mask", 1),
        (
            _f1("greedy", "mask", "no_mask", 1, GREEDY_F1),
            _f1("format, sampled", "mask", "no_mask", 1, HeldOut("format_rate")),
        ),
        curves=("answer/f1", "format/rate"),
        real_variant="no_mask",
    ),
    PublishedFinding(
        "answer_reward",
        "Which answer reward is best: F1, EM or cover-EM?",
        f"{R1_SEARCHER}, table 5",
        "average of four sets by cover-EM: 60.6 with F1, 59.5 with cover-EM, 39.7 with EM",
        _f1("F1 - EM", "two_stages", "em_reward", 1),
        (
            _f1("F1 - cover-EM", "two_stages", "cover_em_reward", 1),
            _f1("words of an answer, cover-EM - F1", "cover_em_reward", "two_stages", 1, HeldOut("answer_words")),
        ),
    ),
    PublishedFinding(
        "algorithm",
        "Which algorithm is best: Reinforce++, GRPO, PPO or RLOO?",
        f"{SEARCH_R1}, PPO and GRPO; {R1_SEARCHER}, GRPO and Reinforce++",
        "average EM of seven sets: 0.431 with PPO, 0.350 with GRPO (7B; 0.303 and 0.312 with 3B); by "
        "cover-EM 59.0 with GRPO, which searches more, and 58.9 with Reinforce++",
        _f1("PPO - GRPO", "ppo", "grpo", 1),
        (
            _f1("Reinforce++ with baseline - GRPO", "two_stages", "grpo", 0),
            _f1("RLOO - GRPO", "rloo", "grpo", 0),
            _f1("Reinforce++ without baseline - with", "reinforce", "two_stages", 0),
            _f1("searches, GRPO - Reinforce++", "grpo", "two_stages", 1, SEARCHES),
        ),
        curves=("answer/f1", "retrieval/searches", "tokens/action"),
        missing="out of domain: the tiny world has one domain",
    ),
    PublishedFinding(
        "rl_or_sft",
        "Is RL better than SFT on the same questions?",
        f"{R1_SEARCHER}, RL or SFT",
        "average of four sets by cover-EM: 60.6 with RL, 50.1 with SFT on 4,768 good episodes (Qwen)",
        _f1("RL - SFT", "searching_stage2", "sft", 1),
        (_f1("searches", "searching_stage2", "sft", 1, SEARCHES),),
        missing="the paper's SFT data come from a stronger model; these are the RL run's own good episodes",
    ),
    PublishedFinding(
        "top_k",
        "How many passages should a search show?",
        f"{SEARCH_R1}, number of retrieved passages",
        "average EM of seven sets: 0.375 with 1, 0.431 with 3, 0.400 with 5",
        _f1("top 3 - top 1", "top_k_3", "top_k_1", 1),
        (_f1("top 3 - top 5", "top_k_3", "top_k_5", 1),),
    ),
    PublishedFinding(
        "group_size",
        "How large should a group be at equal episodes?",
        f"{SEARCH_R1}, group size of GRPO",
        "average EM of seven sets: 0.410, 0.363, 0.350 with groups of 1, 3, 5; larger ones learn faster, collapse more",
        _f1("16 - 4 samples a question", "group_16", "group_4", -1),
        (
            _f1("8 - 1", "grpo", "group_1", -1),
            _f1("8 - 4", "grpo", "group_4", -1),
            _f1("16 - 8", "group_16", "grpo", -1),
            _f1("F1 early in training, 16 - 4", "group_16", "group_4", 1, _F1_EARLY),
        ),
    ),
    PublishedFinding(
        "training_data",
        "Should training questions be hard, and from several sources?",
        f"{R1_SEARCHER}, difficulty and diversity of the training data",
        "average of four sets by cover-EM: 60.8 with the difficult questions, 58.8 with medium ones in their place; "
        "60.6 with two sources, 54.6 and 43.6 with either",
        _f1("all questions - easy ones", "two_stages", "easy_data", 1),
        (
            _f1("hard ones - easy ones", "hard_data", "easy_data", 1),
            _f1("chains and comparisons - chains only", "two_stages", "one_source", 1),
        ),
    ),
    PublishedFinding(
        "length",
        "Do episodes become shorter at first and then longer (primary: longer)?",
        f"{SEARCH_R1}, study of response length",
        "length falls from about 1,150 to 900 tokens, then rises, as searches do from 1.4 to 2.0",
        Contrast(
            "tokens written, end - after stage 1",
            Side("two_stages", _TOKENS_LAST),
            Side("two_stages", _TOKENS_EARLY),
            1,
        ),
        (
            Contrast(
                "two stages: tokens, early - at the start",
                Side("two_stages", _TOKENS_EARLY),
                Side("two_stages", _TOKENS_FIRST),
                -1,
            ),
            Contrast(
                "two stages: searches, end - after stage 1",
                Side("two_stages", _SEARCHED_LAST),
                Side("two_stages", _SEARCHED_EARLY),
                1,
            ),
            Contrast(
                "stage 2 alone: tokens, early - at the start",
                Side("stage2", _TOKENS_EARLY),
                Side("stage2", _TOKENS_FIRST),
                -1,
            ),
            Contrast(
                "stage 2 alone: tokens, end - early", Side("stage2", _TOKENS_LAST), Side("stage2", _TOKENS_EARLY), 1
            ),
        ),
        curves=("tokens/action", "retrieval/searches"),
    ),
    PublishedFinding(
        "other_retrievers",
        "Does what was learnt with one retriever hold with another?",
        f"{R1_SEARCHER}, online search",
        "trained on a local index, cover-EM on Bamboogle is 62.4 with Google, 52.8 with the index; Search-o1 has 56.0",
        _f1("trained - base, pages of several passages", "two_stages", "base", 1, _WEB),
        (
            _f1("the same, greedy", "two_stages", "base", 1, replace(_WEB, decoding="greedy")),
            _f1("the same, EM", "two_stages", "base", 1, replace(_WEB, score="em")),
            _f1("trained - base, three tenths of the texts wrong", "two_stages", "base", 1, _NOISY),
            Contrast("web-like - the index of training", Side("two_stages", _WEB), Side("two_stages"), 1),
        ),
        missing="another index over the same texts; a dense one could not tell invented names apart",
    ),
    PublishedFinding(
        "curriculum",
        "Should the noise of a simulated engine rise?",
        f"{ZEROSEARCH}, curriculum",
        "average of seven sets, 3B: 34.5 with rising noise, 32.6 with 0.5 throughout, 32.8 with Google",
        _f1("rising - constant", "zerosearch_rising", "zerosearch_constant", 1),
        (
            _f1("rising - falling", "zerosearch_rising", "zerosearch_falling", 1),
            _f1("rising - real engine", "zerosearch_rising", "zerosearch_real", 1),
        ),
        missing="the harder world: its simulator is taught the quickstart's questions, so these arms play there",
    ),
    PublishedFinding(
        "reward_parts",
        "Do format and retrieval rewards help?",
        f"{EMPIRICAL}, figure 1",
        "a format reward helps; a reward for what was retrieved (the gold answer stands in it) does not",
        _f1("with format - without", "two_stages", "no_format_reward", 1),
        (
            _f1("with a reward for evidence in the documents - without", "evidence_reward", "two_stages", 0),
            _f1("with a reward for having searched - without", "retrieval_reward", "two_stages", 0),
        ),
        curves=("answer/f1", "format/rate", "retrieval/searches"),
    ),
    PublishedFinding(
        "useless_retriever",
        "Do models stop searching when the retriever is useless?",
        REEXAMINED,
        "with random documents every model stops within 150 steps; with none PPO's searches grow to 3 or 4",
        Contrast(
            "searches at the end, random - real documents",
            Side("random_documents", _SEARCHED_LAST),
            Side("searching_stage2", _SEARCHED_LAST),
            -1,
        ),
        (
            Contrast(
                "searches at the end, none - random",
                Side("no_documents", _SEARCHED_LAST),
                Side("random_documents", _SEARCHED_LAST),
                1,
            ),
        ),
        curves=("retrieval/searches", "answer/f1"),
    ),
    PublishedFinding(
        "budget",
        "Does it help to tell the search budget?",
        REEXAMINED,
        "told its budget, the model settles near two searches",
        _f1("searches, told - not told", "budget_told", "budget_hidden", -1, SEARCHES),
        (_f1("F1, told - not told", "budget_told", "budget_hidden", 0),),
        missing="a base that reads: the tiny one has never seen a sentence about a budget",
    ),
)

FINDINGS: dict[str, PublishedFinding] = {finding.name: finding for finding in _ROWS}


def find_findings(names: Sequence[str]) -> list[PublishedFinding]:
    """The findings of these names; `all` means every one. Raises `InputError` naming the known ones."""
    if unknown := [name for name in names if name not in FINDINGS and name != "all"]:
        raise InputError(f"there is no finding {unknown[0]!r}; known: {', '.join(FINDINGS)}, or all")
    return list(_ROWS) if "all" in names else [FINDINGS[name] for name in dict.fromkeys(names)]


def arms_of(findings: Sequence[PublishedFinding]) -> list[Arm]:
    """Every arm of some findings, each once."""
    return list({arm.name: arm for finding in findings for arm in finding.arms}.values())
