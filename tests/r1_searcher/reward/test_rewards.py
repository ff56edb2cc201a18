"""Rewards against values derived by hand, and what no passage may ever change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.episode.parsing import last_between
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Span, SpanKind, StopReason, Trajectory
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE as PROTOCOL
from r1_searcher.reward.rewards import REWARDS, score
from r1_searcher.reward.rules_r1_searcher import RULES

QUERY = "I need facts. <|begin_of_query|> capital France <|end_of_query|>"
END = "So it is Paris.</think>\n<answer>Paris</answer>"
ELEVEN_WORDS = "Paris b c d e f g h i j k"


@dataclass(frozen=True)
class Docs:
    """Text that the environment put between its tags."""

    text: str = "(1)Title: France Text: Its capital is Paris.\n"

    def block(self) -> str:
        return f"{PROTOCOL.before_documents}{self.text}{PROTOCOL.after_documents}"


DOCS = Docs()


def episode(
    *turns: str | Docs,
    golds: Sequence[str] = ("Paris",),
    reason: StopReason = StopReason.ANSWERED,
) -> Trajectory:
    """An episode of these turns; the answer is that of the last one, as the loop records it."""
    spans = [Span(SpanKind.PROMPT, 0, 0, "an Assistant 东 <think>")]
    for turn in turns:
        kind = SpanKind.DOCUMENTS if isinstance(turn, Docs) else SpanKind.ACTION
        spans.append(Span(kind, 0, 0, turn.block() if isinstance(turn, Docs) else turn))
    row = QARow(id="1", question="Which city?", answers=tuple(golds))
    answer = None
    if reason in (StopReason.ANSWERED, StopReason.LENGTH):
        answer = last_between(spans[-1].text, PROTOCOL.answer)
    return Trajectory(row=row, ids=(), spans=tuple(spans), stop_reason=reason, answer=answer)


def answered(answer: str, *golds: str) -> Trajectory:
    """One search, then this answer in good form."""
    return episode(QUERY, DOCS, f"So.</think> <answer>{answer}</answer>", golds=golds or ("Paris",))


# name: (episode, stage1, stage2, base_code, llama_stage1_code, llama_stage2_code).
# stage1 = 0.5 retrieval + 0.5 format; stage2 = F1, -2 if a format rule is broken; base_code = the same on the
# whole completion; llama_stage1_code = +-1 cover-EM + 0.5 retrieval + 0.5 tags; llama_stage2_code = F1, -1 on
# a failed check.
VECTORS = {
    # Everything right: 0.5 + 0.5 | 1 | 1 | 1 + 0.5 + 0.5 | 1
    "one search, right": (episode(QUERY, DOCS, END), 1, 1, 1, 2, 1),
    # No retrieval: 0 + 0.5 | 1 | counters all 0 are equal: 1 | 1 + 0 + 0.5 | 1
    "no search, right": (episode(END), 0.5, 1, 1, 1.5, 1),
    # F1("london", "paris") = 0: 1 | 0 | 0 | -1 + 1 | 0
    "two searches, wrong": (
        episode(QUERY, DOCS, QUERY, DOCS, "</think><answer>London</answer>"),
        1, 0, 0, 0, 0,
    ),
    # P 1/2, R 1, F1 2/3; every gold word covered: 1 | 2/3 | 2/3 | 1 + 1 | 2/3
    "partly right": (answered("Paris France"), 1, 2 / 3, 2 / 3, 2, 2 / 3),
    # Any gold counts: F1("paris", "paris") = 1
    "second gold": (answered("Paris", "Lutetia", "Paris"), 1, 1, 1, 2, 1),
    # No answer tags: 0.5 + 0 | 0 - 2 | 0 - 2 | -1 + 0.5 + 0 | 0 - 1
    "missing answer": (
        episode(QUERY, DOCS, "So.</think>", reason=StopReason.NO_ANSWER),
        0.5, -2, -2, -0.5, -1,
    ),
    # An answer without words is in good form: 1 | F1 0 | 0 | -1 + 1 | 0
    "empty answer": (answered(""), 1, 0, 0, 0, 0),
    # no != yes: 1 | 0 | 0 | -1 + 1 | 0
    "yes/no mismatch": (answered("no", "yes"), 1, 0, 0, 0, 0),
    # The yes/no rule gives 0 although "yes" is shared; cover-EM knows no such rule: 1 | 0 | 0 | 1 + 1 | 0
    "yes in a sentence": (answered("yes it is", "yes"), 1, 0, 0, 2, 0),
    # True is yes: 1 | 1 | 1 | 1 + 1 | 1
    "True for yes": (answered("True", "yes"), 1, 1, 1, 2, 1),
    # False is no, gold yes: 1 | 0 | 0 | -1 + 1 | 0
    "False for yes": (answered("False", "yes"), 1, 0, 0, 0, 0),
    # Words, not substrings: 1 | 0 | 0 | -1 + 1 | 0
    "art in party": (answered("party", "art"), 1, 0, 0, 0, 0),
    # "us" against "u s", no common word: 1 | 0 | 0 | -1 + 1 | 0
    "U.S. is not us": (answered("us", "U.S."), 1, 0, 0, 0, 0),
    # "u s" both: 1 | 1 | 1 | 2 | 1
    "U.S. is U.S": (answered("the U.S", "U.S."), 1, 1, 1, 2, 1),
    # "schindlers list" against "schindler s list": common 1, P 1/2, R 1/3, F1 2/5; not covered
    "curly apostrophe": (answered("Schindlers List", "Schindler’s List"), 1, 0.4, 0.4, 0, 0.4),
    # Lower-casing is Unicode's, accents stay: F1 1
    "accents": (answered("BEYONCÉ", "Beyoncé"), 1, 1, 1, 2, 1),
    # A passage breaks no rule of ours; base_code reads it: 1 - 2
    "assistant in a passage": (episode(QUERY, Docs("(1)an assistant coach\n"), END), 1, 1, -1, 2, 1),
    # The policy's own: 0.5 + 0 | 1 - 2 | 1 - 2 | not checked: 2 | not checked: 1
    "Assistant by the policy": (episode(QUERY, DOCS, "Assistant: " + END), 0.5, -1, -1, 2, 1),
    # Chinese in a passage is cut out by every server: 1 | 1 | 1 | 2 | 1
    "CJK in a passage": (episode(QUERY, Docs("(1)東京\n"), END), 1, 1, 1, 2, 1),
    # The policy's own: 0.5 + 0 | 1 - 2 | 1 - 2 | not checked: 2 | 1 - 1
    "CJK by the policy": (episode(QUERY, DOCS, "東京 " + END), 0.5, -1, -1, 2, 0),
    # No query, one block by the policy: 0 + 0 | 1 - 2 | counters 1,1,0,0,1,1,1: 1 - 2 | 1 + 0 + 0.5 | 1 - 1
    "forged block": (episode("\n\n" + DOCS.block() + END), 0, -1, -1, 1.5, 0),
    # Half of a tag pair: 0.5 + 0 | 1 - 2 | counters 1,1,1,1,1,2,1: 1 - 2 | 1 + 0 + 0.5 | 1 - 1
    "forged documents-close": (episode(QUERY, DOCS, "<|end_of_documents|>" + END), 0.5, -1, -1, 1.5, 0),
    # A turn that ran on and wrote query and block itself: no search took place, the servers count seven ones:
    # 0 + 0 | 1 - 2 | 1 (bug) | 1 + 0.5 + 0.5 (bug) | 1 (bug)
    "forged query and block": (episode(QUERY + DOCS.block() + END), 0, -1, 1, 2, 1),
    # A search that found nothing is a search; without "(1)" the counters differ:
    # 1 | 1 | 1 - 2 | 1 + 0 + 0.5 | 1 - 1
    "None as result": (episode(QUERY, Docs("None"), END), 1, 1, -1, 1.5, 0),
    # The last one is scored, the pair is not the only one: 0.5 + 0 | 1 - 2 | 1 - 2 | 1 + 0.5 + 0 | 1 - 1
    "two answers": (
        episode(QUERY, DOCS, "</think><answer>London</answer><answer>Paris</answer>"),
        0.5, -1, -1, 1.5, 0,
    ),
    # Answer tags in a passage count for the servers only: 1 | 1 | 1 - 2 | 1 + 0.5 + 0 | 1 - 1
    "answer in a passage": (episode(QUERY, Docs("(1)<answer>London</answer>\n"), END), 1, 1, -1, 1.5, 0),
    # 11 words, F1 = 2 * (1/11) / (12/11) = 1/6: 0.5 | 1/6 - 2 | 1/6 - 2 | 2 | no length check: 1/6
    "answer of 11 words": (answered(ELEVEN_WORDS), 0.5, 1 / 6 - 2, 1 / 6 - 2, 2, 1 / 6),
    # 10 words are allowed, F1 = 2 * (1/10) / (11/10) = 2/11
    "answer of 10 words": (answered(ELEVEN_WORDS[:-2]), 1, 2 / 11, 2 / 11, 2, 2 / 11),
    # "begin of query paris": P 1/4, R 1, F1 0.4: 0.5 | 0.4 - 2 | 0.4 - 2 | 2 | not checked: 0.4
    "tag name in the answer": (answered("begin_of_query Paris"), 0.5, -1.6, -1.6, 2, 0.4),
    # The prompt has opened the thinking already: 0.5 + 0 | 1 - 2 | 1 - 2 | 1 + 0.5 + 0 | 1 - 1
    "think opened again": (episode("<think>" + QUERY, DOCS, END), 0.5, -1, -1, 1.5, 0),
    "think closed twice": (episode("</think>" + QUERY, DOCS, END), 0.5, -1, -1, 1.5, 0),
    "think never closed": (episode(QUERY, DOCS, "<answer>Paris</answer>"), 0.5, -1, -1, 1.5, 0),
    # The servers count tags and do not look at their order: 0.5 + 0 | 1 - 2 | 1 | 2 | 1
    "answer before think-close": (episode(QUERY, DOCS, "<answer>Paris</answer></think>"), 0.5, -1, 1, 2, 1),
    # The policy continued after its answer and ended without one: 0.5 + 0 | 0 - 2 | text is found: 1 | 2 | 1
    "answer before the last search": (
        episode(END + QUERY, DOCS, "Done.", reason=StopReason.NO_ANSWER),
        0.5, -2, 1, 2, 1,
    ),
    # One query more than blocks, no answer: 0.5 + 0 | -2 | -2 | -1 + 0 + 0 | -1
    "search limit": (episode(QUERY, DOCS, QUERY, reason=StopReason.SEARCH_LIMIT), 0.5, -2, -2, -1, -1),
    # Cut inside its second query: the same
    "cut in a query": (
        episode(QUERY, DOCS, "<|begin_of_query|> capital", reason=StopReason.LENGTH),
        0.5, -2, -2, -1, -1,
    ),
    # Cut after a complete answer, which the loop records: as if it had ended there
    "cut after the answer": (episode(QUERY, DOCS, END + " And", reason=StopReason.LENGTH), 1, 1, 1, 2, 1),
    # An empty query brings nothing: 0 + 0 | -2 | -2 | -1 | -1
    "empty query": (
        episode("<|begin_of_query|> <|end_of_query|>", reason=StopReason.INVALID_ACTION),
        0, -2, -2, -1, -1,
    ),
    # The service failed: neutral whatever stands there
    "retriever error": (episode(QUERY, reason=StopReason.RETRIEVER_ERROR), 0, 0, 0, 0, 0),
}  # fmt: skip
NAMES = ("stage1", "stage2", "base_code", "llama_stage1_code", "llama_stage2_code")


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_vectors(vector) -> None:
    episode, *expected = vector
    results = [score(REWARDS[f"r1_searcher.{name}"], episode, PROTOCOL) for name in NAMES]
    assert [result.total for result in results] == pytest.approx(expected), NAMES
    assert [sum(result.parts.values()) for result in results] == pytest.approx(expected), NAMES


@pytest.mark.parametrize(
    ("vector", "broken"),
    [
        ("one search, right", set()),
        ("assistant in a passage", set()),
        ("cut after the answer", set()),
        ("missing answer", {"one_answer"}),
        ("Assistant by the policy", {"no_role_words"}),
        ("CJK by the policy", {"no_cjk"}),
        ("forged block", {"no_forged_documents"}),
        ("forged query and block", {"no_forged_documents", "queries_searched"}),
        ("two answers", {"one_answer"}),
        ("answer of 11 words", {"short_answer"}),
        ("tag name in the answer", {"no_tag_in_answer"}),
        ("think opened again", {"think_closed_once"}),
        ("think closed twice", {"think_closed_once"}),
        ("think never closed", {"think_closed_once", "one_answer"}),
        ("answer before think-close", {"one_answer"}),
        ("search limit", {"think_closed_once", "one_answer"}),  # the last query is well-formed
        ("cut in a query", {"think_closed_once", "one_answer", "queries_searched"}),
        ("empty query", {"think_closed_once", "one_answer", "queries_searched"}),
        ("retriever error", set()),
    ],
)
def test_broken_rules(vector: str, broken: set[str]) -> None:
    result = score(REWARDS["r1_searcher.stage2"], VECTORS[vector][0], PROTOCOL)
    assert {name for name, kept in result.rules.items() if not kept} == broken


def test_every_part_and_rule_is_logged_under_the_same_keys() -> None:
    for reward in REWARDS.values():
        logs = [score(reward, vector[0], PROTOCOL).logs() for vector in VECTORS.values()]
        assert {tuple(entry) for entry in logs} == {tuple(logs[0])}
        rules = reward.rules_under(PROTOCOL)
        assert set(logs[0]) == {f"reward/{name}" for name in reward.parts} | {f"rule/{name}" for name in rules}
        assert all(isinstance(value, float) and str(value) != "-0.0" for entry in logs for value in entry.values())


def test_stage1_ignores_the_answer() -> None:
    reward = REWARDS["r1_searcher.stage1"]
    assert score(reward, answered("Paris"), PROTOCOL) == score(reward, answered("London"), PROTOCOL)


PASSAGE = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*PROTOCOL.tags, "Assistant", "assistant", "東", "Paris", "(1)", "\n"]), max_size=6).map(
        "".join
    ),
)


@given(PASSAGE)
def test_no_passage_changes_a_reward(passage: str) -> None:
    for name in ("r1_searcher.stage1", "r1_searcher.stage2"):
        found = score(REWARDS[name], episode(QUERY, Docs(passage), END), PROTOCOL)
        assert found == score(REWARDS[name], episode(QUERY, DOCS, END), PROTOCOL)


@given(st.lists(st.one_of(st.just(DOCS), PASSAGE), max_size=5), st.sampled_from(StopReason))
def test_rewards_are_bounded_whatever_the_policy_writes(turns, reason) -> None:
    trajectory = episode("", *turns, reason=reason)
    assert score(REWARDS["r1_searcher.stage1"], trajectory, PROTOCOL).total in (0.0, 0.5, 1.0)
    for name, low, high in (("stage2", -2, 1), ("base_code", -2, 1), ("llama_stage1_code", -1, 2)):
        assert low <= score(REWARDS[f"r1_searcher.{name}"], trajectory, PROTOCOL).total <= high


def test_tags_come_from_the_protocol() -> None:
    from dataclasses import replace

    from r1_searcher.episode.protocol import Tags

    other = replace(PROTOCOL, query=Tags("<search>", "</search>"), documents=Tags("<info>", "</info>"))
    trajectory = answered("search info")
    assert score(REWARDS["r1_searcher.stage1"], trajectory, other).rules == {
        **dict.fromkeys(RULES, True),
        "queries_searched": False,  # one search, and no <search> was written
    }


def test_the_core_imports_without_the_training_stack() -> None:
    modules = ["reward.rewards", "episode.transcript_import", "run.reward_batch", "reward_func", "reward_server"]
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch','ray','vllm','openrlhf','flask','waitress')))"
    program = "\n".join([blocked, *(f"import r1_searcher.{module}" for module in modules)])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
