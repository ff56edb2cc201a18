"""The Flask app: both formats, and a 4xx with one clear JSON line for whatever else is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retriever.server import create_app
from retriever.wire import r1_line

LIMITS = {"max_top_k": 10, "max_queries": 4, "max_query_chars": 50, "max_body_bytes": 2000}


@pytest.fixture(scope="module")
def client(bm25):
    return create_app(bm25, **LIMITS).test_client()


def test_search(client):
    answer = client.post("/search", json={"queries": ["paris", "zzz"], "top_k": 3})
    assert answer.status_code == 200 and answer.content_type == "application/json"
    first, second = answer.get_json()["results"]
    assert second == [] and len(first) == 1 and first[0].pop("score") > 0
    assert first[0] == {"id": "p3", "title": "Paris", "text": "Paris is the capital of France."}


def test_r1_searchers_format(client):
    answer = client.post("/queries", json={"queries": ["paris", "zzz"], "k": 3})
    line = "Paris   Paris is the capital of France."
    assert answer.get_json() == {"queries": ["paris", "zzz"], "answers": [[line], []]}


def test_r1_searchers_k_may_be_left_out(client):
    assert len(client.post("/queries", json={"queries": ["is the a"]}).get_json()["answers"][0]) == 3


def test_r1_line_is_one_line(passages):
    passage = type(passages[0])("1", "A", "b\nc\r\nd")
    assert r1_line(passage) == "A   b c d" and r1_line(type(passage)("1", "", "b")) == "b"


def test_health(client, passages):
    assert client.get("/health").get_json() == {"status": "ready", "index": "bm25", "passages": len(passages)}


GOOD = {"queries": ["q"], "top_k": 3, "k": 3}


def changed(**changes) -> bytes:
    return json.dumps({key: value for key, value in (GOOD | changes).items() if value != "drop"}).encode()


BAD = [
    (b"", "not JSON"),
    (b"hello", "not JSON"),
    (b"\xff\xfe", "not UTF-8"),
    (b"[" * 1500, "not JSON"),
    (b"1" * 1900, ""),
    (b"[]", "JSON object"),
    (b'"text"', "JSON object"),
    (b"null", "JSON object"),
    (changed(queries="drop"), "queries"),
    (changed(queries=[]), "non-empty"),
    (changed(queries="one query"), "non-empty list"),
    (changed(queries={"a": 1}), "non-empty list"),
    (changed(queries=[None]), "queries[0]"),
    (changed(queries=["a", 7]), "queries[1]"),
    (changed(queries=[["a"]]), "queries[0]"),
    (changed(queries=["x" * 51]), "at most"),
    (changed(queries=["x"] * 5), "at most 4"),
    (changed(queries=["\ud800"]), "surrogate"),
    *((changed(top_k=k, k=k), "from 1 to 10") for k in (0, -1, 10**9, 11, "a string", "3", 2.5, True, None, [])),
]


@pytest.mark.parametrize("path", ["/search", "/queries"])
@pytest.mark.parametrize(("body", "said"), BAD)
def test_a_wrong_request_gets_one_clear_line(client, path, body, said):
    answer = client.post(path, data=body)
    assert answer.status_code == 400 and answer.content_type == "application/json"
    lines = answer.get_data(as_text=True).splitlines()
    message = json.loads(lines[0])["error"]
    assert len(lines) == 1 and said in message and len(message) < 400


def test_top_k_must_be_given(client):
    assert "top_k" in client.post("/search", data=changed(top_k="drop")).get_json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/search", 405), ("POST", "/health", 405), ("GET", "/", 404), ("PUT", "/queries", 405)],
)
def test_wrong_routes_get_json_too(client, method, path, status):
    answer = client.open(path, method=method)
    assert answer.status_code == status and path in answer.get_json()["error"]


def test_a_body_over_the_limit_is_refused(client):
    answer = client.post("/search", data=b" " * 2001)
    assert answer.status_code == 413 and "2000 bytes" in answer.get_json()["error"]


def test_a_failing_index_is_a_500_without_details(caplog):
    class Broken:
        name = "broken"

        def __len__(self) -> int:
            return 1

        def search(self, queries, top_k):
            raise RuntimeError("secret path")

    answer = create_app(Broken()).test_client().post("/search", json={"queries": ["q"], "top_k": 1})
    assert answer.status_code == 500 and "secret" not in answer.get_data(as_text=True)
    assert "RuntimeError" in answer.get_json()["error"] and "secret path" in caplog.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "queries": st.lists(st.text(max_size=60) | json_values, max_size=6) | json_values,
        "top_k": st.integers(-3, 15) | json_values,
        "k": st.integers(-3, 15) | json_values,
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/search", "/queries"]),
    body=st.binary(max_size=200) | (json_values | nearly_right).map(lambda row: json.dumps(row).encode()),
)
def test_no_body_makes_the_server_fail(client, path, body):
    answer = client.post(path, data=body)
    assert answer.status_code in (200, 400, 413)
    assert set(answer.get_json()) <= {"results", "queries", "answers", "error"}
