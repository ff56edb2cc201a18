"""One turn's text to its meaning."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.parsing import Answer, Invalid, Nothing, Search, Truncated, last_between, parse_action
from r1_searcher.policy import Finish
from r1_searcher.protocol import R1_SEARCHER_BASE as BASE
from r1_searcher.protocol import Tags

B, E = "<|begin_of_query|>", "<|end_of_query|>"
SHORT = replace(BASE, query=Tags("<search>", "</search>"), query_strip="")


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (f"{B}a{E}", "a"),
        (f"x{B} a  b\n{E}tail", "a b"),
        (f'{B}"a" "b"{E}', "a b"),
        (f"{B}a{B}b{E}", "b"),
        (f"{B}a{E}{B}b{E}", "a"),
        (f"{B}a\u3000b\xa0c{E}", "a b c"),
        (f"{B}it's{E}", "it's"),
    ],
)
def test_search(text, query):
    assert parse_action(BASE, text, Finish.STOP) == Search(query)


@pytest.mark.parametrize("text", ["", E, f"a{E}", f"{E}{B}a", f"{B}{E}", f'{B}"" {E}', B, f"{B}a", f"{E}{B}a{E}"])
def test_invalid(text):
    assert isinstance(parse_action(BASE, text, Finish.STOP), Invalid)


def test_invalid_says_why():
    assert "without <|begin_of_query|>" in parse_action(BASE, E, Finish.STOP).why
    assert parse_action(BASE, B + E, Finish.STOP).why == "empty query"


def test_another_protocol_keeps_its_quotes():
    assert parse_action(SHORT, '<search>"a"</search>', Finish.STOP) == Search('"a"')


def test_an_answer_beside_a_query_is_part_of_the_search_turn():
    assert parse_action(BASE, f"<answer>a</answer>{B}q{E}", Finish.STOP) == Search("q")


@pytest.mark.parametrize(
    ("finish", "text", "action"),
    [
        (Finish.EOS, "", Nothing()),
        (Finish.EOS, "<answer>a</answer>", Answer("a")),
        (Finish.EOS, f"{B}q{E}", Nothing()),
        (Finish.EOS, f"{B}q{E}<answer>a</answer>", Answer("a")),
        (Finish.LENGTH, "<answer>a</answer>x", Truncated("a")),
        (Finish.LENGTH, f"{B}q{E}", Truncated(None)),
        (Finish.LENGTH, "<answer>a", Truncated(None)),
    ],
)
def test_other_ends(finish, text, action):
    assert parse_action(BASE, text, finish) == action


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer> a </answer>", "a"),
        ("<answer>a</answer><answer>b</answer>", "b"),
        ("<answer>a</answer><answer>b", "a"),
        ("<answer>a<answer>b</answer>", "b"),
        ("</answer><answer>", None),
        ("<answer>", None),
        ("<answer></answer>", ""),
        ("<answer>\n</answer>", ""),
    ],
)
def test_last_between(text, found):
    assert last_between(text, BASE.answer) == found


@given(
    st.lists(st.one_of(st.sampled_from([B, E, "<answer>", "</answer>", '"', " "]), st.text(max_size=4)), max_size=8),
    st.sampled_from(Finish),
)
def test_any_text_has_a_meaning_and_queries_are_clean(parts, finish):
    action = parse_action(BASE, "".join(parts), finish)
    if isinstance(action, Search):
        assert finish is Finish.STOP
        assert action.query and action.query == " ".join(action.query.split())
        assert not any(bad in action.query for bad in (B, E, '"'))
    if isinstance(action, Answer):
        assert "<answer>" not in action.text
