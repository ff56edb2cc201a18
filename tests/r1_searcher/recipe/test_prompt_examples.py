"""Prompts show examples of answers and queries; none of them may count as the policy's."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.episodes.fakes import ROOMY, ROW, play, tag_tokenizer, turn_that_answers

from r1_searcher.episode.parsing import last_boxed
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.recipe.protocols import PROTOCOLS
from r1_searcher.reward.rewards import REWARDS, compose, score

ALL_PARTS = compose("em=1,cover_em=1,squad_em=1,squad_f1=1,substring=1,set_f1=1,evidence=1,retrieved=1,searches=1")
LIMITS = replace(ROOMY, max_searches=2)


def examples(protocol) -> set[str]:
    """Everything between answer tags or in a box of the prompt or of a correction, and a word that is nowhere."""
    shown = render_prompt(protocol, ROW, tag_tokenizer(protocol)) + protocol.feedback
    between = re.findall(f"{re.escape(protocol.answer.open)}(.*?){re.escape(protocol.answer.close)}", shown, re.DOTALL)
    boxed = [last_boxed(text) for text in between]
    return {text.strip() for text in (*between, *boxed) if text and text.strip()}


def test_there_are_examples_to_test_with():
    assert "Lake Geneva" in examples(PROTOCOLS["search_r1"])
    assert "the exact answer" in examples(PROTOCOLS["research.base"])
    bare = {name for name, protocol in PROTOCOLS.items() if not examples(protocol)}
    assert bare == {name for name in PROTOCOLS if name.endswith(".tiny") or name == "own_agent"}


@pytest.mark.parametrize("text", ["", "Hm."])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_policy_that_writes_nothing_has_not_answered(protocol, text):
    for gold in {*examples(protocol), ROW.question}:
        played = play([text] * 3, protocol=protocol, limits=LIMITS, row=replace(ROW, answers=(gold,)))
        other = play([text] * 3, protocol=protocol, limits=LIMITS, row=replace(ROW, answers=("Zanzibar",)))
        assert played.trajectory.answer is None
        assert gold in "".join(played.texts(SpanKind.PROMPT) + played.texts(SpanKind.FEEDBACK))
        for reward in (*REWARDS.values(), ALL_PARTS):
            found = score(reward, played.trajectory, protocol)
            assert found == score(reward, other.trajectory, protocol), f"{reward.name} looks at the prompt"
            assert found.total <= 0, reward.name
        assert score(ALL_PARTS, played.trajectory, protocol).total == 0


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_an_answer_is_judged_as_without_the_example(protocol):
    """An example counts neither for the answer nor against its form."""
    written = turn_that_answers(protocol, "Paris")
    with_example = play([written], protocol=protocol).trajectory
    bare = replace(with_example, spans=(replace(with_example.spans[0], text="?"), *with_example.spans[1:]))
    for reward in (*REWARDS.values(), ALL_PARTS):
        assert score(reward, with_example, protocol) == score(reward, bare, protocol), reward.name
