"""How foreign tools are asked, and what is found in their answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retriever.passage import Hits, Passage
from retriever.tools.shapes import STANDARD, Shape, ShapeError, call_of, read_hits
from retriever.wire import bodies
from retriever.wire.answers import decode_own, encode_own
from retriever.wire.bodies import Ask


def schema(*required: str, **types: object) -> dict:
    properties = {name: found if isinstance(found, dict) else {"type": found} for name, found in types.items()}
    return {"type": "object", "properties": properties, "required": list(required)}


# --- arguments


@pytest.mark.parametrize(
    ("tool", "shape", "arguments"),
    [
        (schema("query", query="string", top_k="integer"), {}, {"query": "a b", "top_k": 5}),
        (schema("q", q="string", limit="integer", lang="string"), {}, {"q": "a b", "limit": 5}),
        (schema("queries", queries="array", n="integer"), {}, {"queries": ["a b"], "n": 5}),
        (schema("query", query="string"), {}, {"query": "a b"}),
        (schema("thema", thema="string"), {}, {"thema": "a b"}),
        (schema("query", query="string", count={"type": "integer", "maximum": 3}), {}, {"query": "a b", "count": 3}),
        (schema(query="string", count={"maximum": True}), {}, {"query": "a b", "count": 5}),
        (
            schema(q="string", was="string", viele="integer"),
            {"query": "was", "count": "viele"},
            {"was": "a b", "viele": 5},
        ),
        ({}, {"query": "was"}, {"was": "a b"}),
        ({"properties": None, "required": 3}, {"query": "was", "count": "k"}, {"was": "a b", "k": 5}),
    ],
)
def test_how_a_tool_is_asked(tool, shape, arguments):
    assert call_of(tool, STANDARD.with_names(**shape)).arguments("a b", 5) == arguments


def test_further_arguments_are_the_same_for_every_search():
    tool = schema("query", "index", query="string", index="string")
    shape = STANDARD.with_names({"index": "wiki", "query": "never"})
    assert call_of(tool, shape).arguments("a", 1) == {"index": "wiki", "query": "a"}


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ({}, "say \\?query=NAME"),
        (schema(flag="boolean"), "It has flag; say"),
        (schema("flag", flag="boolean"), "takes the query"),
        (schema("query", "index", query="string", index="string"), "also requires index; say \\?arguments="),
    ],
)
def test_a_tool_that_cannot_be_asked(tool, said):
    with pytest.raises(ShapeError, match=said):
        call_of(tool, STANDARD)


# --- answers


def found(structured=None, texts=(), linked=(), top_k=5, **names) -> list[tuple[str, str, str]]:
    hits = read_hits(structured, texts, linked, STANDARD.with_names(**names), top_k)
    return [(hit.passage.id, hit.passage.title, hit.passage.text) for hit in hits]


ROW = {"id": "7", "title": "T", "text": "words"}
WHOLE = [("7", "T", "words")]


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [ROW]},
        {"result": [ROW]},
        {"result": {"documents": [ROW]}},
        {"query": "q", "data": {"results": [ROW]}},
        {"web": {"results": [{"url": "7", "title": "T", "description": "words"}]}},
        {"organic": [{"link": "7", "title": "T", "snippet": "words"}]},
        {"results": [{"id": 7, "name": "T", "content": ["", "words"]}]},
        {"results": [{"document": {"id": "7", "title": "T", "contents": "words"}}]},
        {"results": [[ROW]]},
        [ROW],
        ROW,
    ],
)
def test_where_results_are_found(answer):
    assert found(answer) == WHOLE, "as structured content"
    assert found(texts=[json.dumps(answer)]) == WHOLE, "as a text of JSON"
    assert found({"result": json.dumps(answer)}) == WHOLE, "as such a text, wrapped"


def test_a_result_in_each_text():
    assert found(texts=[json.dumps(ROW), json.dumps({**ROW, "id": "8"})]) == [*WHOLE, ("8", "T", "words")]


@pytest.mark.parametrize(
    "text",
    [
        "Title: T\nURL: 7\nDescription: words",
        "Found 1 results:\n\n1. T\n   URL: 7\n   Summary: words\n",
        "**Title:** T\n**URL:** 7\n**Content:** words\n\n---\n",
        "Detailed Results:\n\nTitle: T\nURL: 7\nContent: words",
    ],
)
def test_labelled_lines(text):
    assert found(texts=[text]) == WHOLE


def test_labelled_lines_of_several_results():
    text = "Title: A\nURL: 1\nContent: one\nstill one: yes\n\nTitle: B\nURL: 2\nContent: two"
    assert found(texts=[text]) == [("1", "A", "one\nstill one: yes"), ("2", "B", "two")]


def test_any_other_text_is_a_passage():
    ((identifier, title, text),) = found(texts=["  Koechlin drew it.\nURL: none\n"])
    assert (title, text) == ("", "Koechlin drew it.\nURL: none") and identifier, "its id is a hash"
    assert found(texts=["[1] see there"])[0][2] == "[1] see there"


def test_passages_that_come_as_resources():
    passage = Passage("file:///a", "", "inside")
    assert found(texts=["before"], linked=[passage])[1] == ("file:///a", "", "inside")


@pytest.mark.parametrize(
    "answer", [{"results": []}, [], {"result": []}, {"result": ""}, ["", " "], {"results": ["\n"]}]
)
def test_nothing_found(answer):
    assert found(answer) == []


@pytest.mark.parametrize("text", ["", " \n", "No results found.", "no matches for 'x'", "[]", '{"results": []}'])
def test_a_text_that_says_that_nothing_was_found(text):
    assert found(texts=[text]) == []


def test_names_of_the_users():
    answer = {"a": {"b": [{"was": {"inhalt": "words"}, "kopf": "T", "nr": 7, "text": "not this"}]}}
    names = {"results": "a.b", "text": "was.inhalt", "title": "kopf", "id": "nr"}
    assert found(answer, **names) == WHOLE
    assert found(texts=[json.dumps(answer)], **names) == WHOLE
    assert found({"result": json.dumps(answer)}, [json.dumps(answer)], **names) == WHOLE
    assert found([{"x": [ROW]}], results="0.x") == WHOLE


@pytest.mark.parametrize(
    ("answer", "names", "said"),
    [
        ({"results": [3]}, {}, "expected a result"),
        ({"results": [{"a": 1}]}, {}, "a result without a title and a text has a; say"),
        ({"rows": [ROW]}, {}, "no results under any known name in an answer with rows; say"),
        (3, {}, "expected results, found 3"),
        ({"rows": [ROW]}, {"results": "lines"}, "expected a list of results at lines, found an answer with rows"),
        ({"lines": "x"}, {"results": "lines"}, "at lines, found 'x'"),
        ([ROW], {"results": "9999.x"}, "expected a list of results"),
        ({"result": {"result": {"result": {"result": {"result": {"result": [ROW]}}}}}}, {}, "too deeply"),
    ],
)
def test_answers_that_cannot_be_read(answer, names, said):
    with pytest.raises(ShapeError, match=said):
        found(answer, **names)


def test_scores_count_where_they_fall_with_the_rank():
    def scores(*given):
        rows = [{**ROW, "score": score} for score in given]
        return [hit.score for hit in read_hits({"results": rows}, (), (), STANDARD, 9)]

    assert scores(0.9, 0.5, 0.5) == [0.9, 0.5, 0.5]
    assert scores(0.1, 0.5) == [1.0, 0.5], "distances, or an order of its own"
    assert scores(0.9, None) == scores(0.9, "x") == scores(0.9, float("nan")) == [1.0, 0.5]


def test_no_more_than_asked_for():
    assert len(found({"results": [ROW] * 9}, top_k=3)) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*STANDARD.results[:8], *STANDARD.text[:4], "id", "title", "score", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
shapes = st.sampled_from([STANDARD, STANDARD.with_names(results="x.0"), STANDARD.with_names(text="title", id="x.x")])


@example([""], [], STANDARD)
@given(json_values, st.lists(st.text(max_size=80) | json_values.map(json.dumps), max_size=3), shapes)
def test_whatever_a_server_answers_is_hits_or_one_line(structured, texts, shape: Shape):
    try:
        hits: Hits = read_hits(structured, texts, (), shape, 4)
    except ShapeError as error:
        assert len(str(error)) < 900
        return
    assert len(hits) <= 4 and all(hit.passage.id and hit.passage.titled_text for hit in hits)
    body = bodies.dump(encode_own(Ask(("q",), 4), [hits]))
    assert tuple(decode_own(bodies.load(body))[0]) == hits, "it can be recorded"


@given(json_values, json_values)
def test_whatever_a_server_says_of_its_tool(properties, required):
    try:
        call_of({"properties": properties, "required": required}, STANDARD).arguments("q", 3)
    except ShapeError as error:
        assert len(str(error)) < 900
