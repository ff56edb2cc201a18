"""One turn's text to its meaning."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.episode.parsing import (
    Answer,
    Invalid,
    Nothing,
    Search,
    Truncated,
    first_between,
    last_between,
    parse_action,
)
from r1_searcher.episode.policy import Finish
from r1_searcher.episode.protocol import Tags
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, DEEP_RESEARCHER_RAG, PROTOCOLS, RESEARCH_BASE, SEARCH_R1
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE as BASE

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


@pytest.mark.parametrize(
    ("text", "finish", "action"),
    [
        ("<think>a</think><search> q </search>", Finish.STOP, Search("q")),
        ("<search>a<search>b</search>", Finish.STOP, Search("b")),
        ("<answer>a<search>q</search>", Finish.STOP, Search("q")),
        ("<answer> a </answer>", Finish.STOP, Answer("a")),
        ("<answer></answer>", Finish.STOP, Answer("")),
        ("a</answer>", Finish.STOP, Invalid("</answer> without its opening tag")),
        ("a</search>", Finish.STOP, Invalid("</search> without <search> before it")),
        ("<search> </search>", Finish.STOP, Invalid("empty query")),
        ("hm", Finish.EOS, Nothing()),
        ("<search>q", Finish.LENGTH, Truncated(None)),
    ],
)
def test_search_r1_stops_at_both_tags(text, finish, action):
    assert parse_action(SEARCH_R1, text, finish) == action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<answer>\\boxed{a}</answer>", Answer("a")),
        ("<answer>It is \\[ \\boxed{ a } \\].</answer>", Answer("a")),
        ("<answer>\\boxed{a} \\boxed{b}</answer>", Answer("b")),
        ("<answer>\\boxed{\\frac{1}{2}}</answer>", Answer("\\frac{1}{2}")),
        ("<answer>\\boxed{}</answer>", Answer("")),
        ("<answer>\\boxed{a}</answer><answer>\\boxed{b}</answer>", Answer("a")),
        ("<answer>a</answer>", Nothing()),
        ("<answer>\\boxed{a</answer>", Nothing()),
        ("<answer>\\boxed a</answer>", Nothing()),
        ("\\boxed{a}", Nothing()),
        ("<answer>\\boxed{a}", Nothing()),
    ],
)
def test_research_answers_in_a_box(text, action):
    assert parse_action(RESEARCH_BASE, text, Finish.EOS) == action


def call(arguments: object, name: object = "web_search") -> str:
    return f"So.</think><tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


WEB_SEARCH, BROWSE = DEEP_RESEARCHER.tools


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (call({"query": ["a"]}), Search("a", (), WEB_SEARCH)),
        (call({"query": [" a  b\n", "c"], "more": 1}), Search("a b", ("c",), WEB_SEARCH)),
        (call({"query": [str(n) for n in range(50)]}), Search("0", ("1", "2"), WEB_SEARCH)),
        (call({"url_list": ["http://a"]}, "browse_webpage"), Search("http://a", (), BROWSE)),
        (call({"query": ["a"]}) + " bye", Search("a", (), WEB_SEARCH)),
        (call({"query": ["a"]}) + call({"query": ["b"]}), Search("b", (), WEB_SEARCH)),
        (call({"query": ["a"]}) + "<answer>x</answer>", Answer("x")),
        ("</think><answer>x</answer><answer>y</answer>", Answer("x")),
        (call({"query": ["half \ud83d pair"]}), Search("half ? pair", (), WEB_SEARCH)),
        (call({"query": ["<answer>x</answer>"]}), Answer("x")),
    ],
)
def test_tool_calls(text, action):
    assert parse_action(DEEP_RESEARCHER, text, Finish.EOS) == action


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("</think><tool_call>{</tool_call>", "not JSON"),
        ("</think><tool_call></tool_call>", "not JSON"),
        ("</think><tool_call>" + "[" * 100_000 + "</tool_call>", "not JSON"),
        ("</think><tool_call>" + "9" * 5000 + "</tool_call>", "not JSON"),
        ("</think><tool_call>[1]</tool_call>", "arguments of web_search, browse_webpage"),
        ("</think><tool_call>null</tool_call>", "arguments of web_search, browse_webpage"),
        (call({"query": ["a"]}, "Search"), "arguments of web_search, browse_webpage"),
        (call({"query": ["a"]}, ["web_search"]), "arguments of web_search, browse_webpage"),
        (call({"url_list": ["a"]}), "arguments of web_search, browse_webpage"),
        (call("query"), "arguments of web_search, browse_webpage"),
        (call({"query": "a"}), "query must be a list of strings"),
        (call({"query": ["a", None]}), "query must be a list of strings"),
        (call({"query": []}), "empty query"),
        (call({"query": ["a", " "]}), "empty query"),
        (call({"query": ["a" * 2001]}), "query of 2001 characters"),
        (call({"query": ["a"]}).removeprefix("So.</think>"), "a tool call without </think> before it"),
        ("</think>{}</tool_call>", "</tool_call> without <tool_call> before it"),
    ],
)
def test_tool_calls_that_cannot_be_made(text, why):
    action = parse_action(DEEP_RESEARCHER, text, Finish.EOS)
    assert isinstance(action, Invalid) and why in action.why


def test_the_rag_mode_knows_no_browsing():
    action = parse_action(DEEP_RESEARCHER_RAG, call({"url_list": ["a"]}, "browse_webpage"), Finish.EOS)
    assert isinstance(action, Invalid)


@given(st.sampled_from(sorted(PROTOCOLS)), st.sampled_from(Finish), st.data())
def test_any_text_of_any_protocol_has_a_meaning(name, finish, data):
    protocol = PROTOCOLS[name]
    pieces = st.sampled_from([*protocol.tags, '{"name": "web_search", "arguments": {"query": ["q"]}}', "\\boxed{", "}"])
    action = parse_action(protocol, "".join(data.draw(st.lists(pieces | st.text(max_size=4), max_size=8))), finish)
    if isinstance(action, Search):
        assert all(query and query == " ".join(query.split()) for query in action.queries)
        assert (action.tool is None) == (not protocol.tools)
        assert finish is (Finish.STOP if protocol.stops_at_query else Finish.EOS) or finish is Finish.STOP


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer> a </answer><answer>b</answer>", "a"),
        ("</answer><answer>b</answer>", "b"),
        ("<answer>a", None),
        ("</answer><answer>", None),
        ("", None),
        ("<answer></answer>", ""),
    ],
)
def test_first_between(text, found):
    assert first_between(text, BASE.answer) == found


@pytest.mark.parametrize(
    ("text", "finish", "action"),
    [
        (" Paris.\n", Finish.EOS, Answer("Paris.")),
        ("Paris, which", Finish.LENGTH, Truncated("Paris, which")),
        (" \n", Finish.EOS, Nothing()),
        ("<|begin_of_query|> Paris <|end_of_query|>", Finish.STOP, Search("Paris")),
    ],
)
def test_without_answer_tags_a_turn_that_is_no_search_is_the_answer(text, finish, action):
    plain = replace(PROTOCOLS["r1_searcher.chat"], plain_answer=True)
    assert parse_action(plain, text, finish) == action
