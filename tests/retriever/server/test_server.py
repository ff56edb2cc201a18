"""The Flask app: a 4xx with one clear JSON line for whatever wrong is sent, in every format; token, states, metrics."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.services.http_clients import http_retriever

from retriever import RetrieverUnavailable, SearchRequest
from retriever.index.corpus import corpus_hash
from retriever.passage import Passage
from retriever.server.app import create_app
from retriever.server.batching import BatchLimits
from retriever.server.search_service import SearchService
from retriever.wire.formats import FORMATS
from retriever.written import r1_line

LIMITS = {"max_top_k": 10, "max_queries": 4, "max_query_chars": 50, "max_body_bytes": 2000}
PATHS = sorted({row.path for row in FORMATS.values()})


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
    line = r1_line(Passage("p3", "Paris", "Paris is the capital of France."))
    assert answer.get_json() == {"queries": ["paris", "zzz"], "answers": [[line], []]}


@pytest.mark.parametrize("k", [{}, {"k": None}])
def test_r1_searchers_k_may_be_left_out(client, k):
    assert len(client.post("/queries", json={"queries": ["is the a"], **k}).get_json()["answers"][0]) == 3


def test_health(client, passages):
    health = client.get("/health").get_json()
    assert (health["status"], health["index"], health["passages"]) == ("ready", "bm25", len(passages))
    assert health["corpus"] == corpus_hash(passages)


ONE = {row.path: row for row in FORMATS.values()}
"""The last format of each path; the first ones of `/search` and `/retrieve` are asked below, too."""
LISTS = ["own", "r1_searcher", "search_r1", "research_batch"]
BAD_BODIES = [
    (b"", "not JSON"),
    (b"hello", "not JSON"),
    (b"\xff\xfe", "not UTF-8"),
    (b"[" * 1500, "not JSON"),
    (b"1" * 1900, "JSON object, found 111"),
    (b"[]", "JSON object"),
    (b'"text"', "JSON object"),
    (b"null", "JSON object"),
    (b"{}", "must be"),
]
BAD_QUERIES = [
    ("one query", "list of strings"),
    ({"a": 1}, "list of strings"),
    ([None], "[0]"),
    (["a", 7], "[1]"),
    ([["a"]], "[0]"),
    (["x"] * 5, "at most 4"),
    (["\ud800"], "surrogate"),
]
BAD_COUNTS = [-1, 10**9, 11, "a string", "2.5", "nan", "1e999", 2.5, True, [], "11"]


def refused(answer, said: str, status: int = 400) -> None:
    assert answer.status_code == status and answer.content_type == "application/json"
    lines = answer.get_data(as_text=True).splitlines()
    message = json.loads(lines[0])["error"]
    assert len(lines) == 1 and said in message and len(message) < 400 and "Traceback" not in message


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("body", "said"), BAD_BODIES)
def test_a_wrong_body_gets_one_clear_line(client, path, body, said):
    refused(client.post(path, data=body), said)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("queries", "said"), BAD_QUERIES)
def test_wrong_queries_get_one_clear_line(client, name, queries, said):
    row = FORMATS[name]
    body = json.dumps({row.query_key: queries, row.count_key: 3})
    refused(client.post(row.path, data=body), said)


@pytest.mark.parametrize("name", ["zerosearch", "research"])
@pytest.mark.parametrize("query", [None, 7, [], ["a"], {}, "\ud800"])
def test_a_wrong_single_query_gets_one_clear_line(client, name, query):
    row = FORMATS[name]
    refused(client.post(row.path, data=json.dumps({row.query_key: query, row.count_key: 3})), "'query'")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", BAD_COUNTS)
def test_a_wrong_count_gets_one_clear_line(client, name, count):
    row = FORMATS[name]
    body = {row.query_key: "q" if row.single else ["q"], row.count_key: count}
    refused(client.post(row.path, data=json.dumps(body)), f"'{row.count_key}' must be an integer from 1 to 10")


@pytest.mark.parametrize("left_out", [{}, {"top_k": None}])
def test_top_k_must_be_given_in_our_own_format(client, left_out):
    refused(client.post("/search", data=json.dumps({"queries": ["q"], **left_out})), "top_k")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/search", 405), ("POST", "/health", 405), ("GET", "/", 404), ("PUT", "/queries", 405)],
)
def test_wrong_routes_get_json_too(client, method, path, status):
    refused(client.open(path, method=method), path, status)


def test_a_body_over_the_limit_is_refused(client):
    refused(client.post("/search", data=b" " * 2001), "2000 bytes", 413)


def test_hostile_sizes_under_the_default_limits(bm25):
    client = create_app(bm25).test_client()
    refused(client.post("/search", json={"queries": ["x" * 10_000_000], "top_k": 3}), "8192 characters")
    refused(client.post("/search", json={"queries": ["x"], "top_k": 10**9}), "1 to 100")
    refused(client.post("/search", data=b" " * (16 * 1024 * 1024 + 1)), "bytes", 413)


class Broken:
    name = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def search(self, queries, top_k):
        raise self.error


def test_a_failing_index_is_a_500_without_details(caplog):
    answer = (
        create_app(Broken(RuntimeError("secret path")))
        .test_client()
        .post("/search", json={"queries": ["q"], "top_k": 1})
    )
    refused(answer, "RuntimeError", 500)
    assert "secret" not in answer.get_data(as_text=True) and "secret path" in caplog.text


def test_an_index_that_is_cut_off_is_a_503_without_details(caplog):
    answer = (
        create_app(Broken(RetrieverUnavailable("secret host")))
        .test_client()
        .post("/search", json={"queries": ["q"], "top_k": 1})
    )
    refused(answer, "unavailable", 503)
    assert answer.headers["Retry-After"] == "1" and "secret" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer t0kenx", "t0ken", "Basic t0ken", "Bearer ☃"])
@pytest.mark.parametrize("path", [*PATHS, "/metrics", "/nowhere"])
def test_without_the_token_nothing_is_told(bm25, authorization, path):
    client = create_app(bm25, token="t0ken").test_client()
    headers = {} if authorization is None else {"Authorization": authorization.encode().decode("latin-1")}
    answer = client.open(path, method="GET" if path == "/metrics" else "POST", headers=headers, data=b"hello")
    refused(answer, "Authorization: Bearer <token>", 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer" and "t0ken" not in answer.get_data(as_text=True)


def test_with_the_token_all_is_told(bm25):
    client = create_app(bm25, token="t0ken").test_client()
    headers = {"Authorization": "Bearer t0ken"}
    assert client.post("/search", json={"queries": ["paris"], "top_k": 1}, headers=headers).status_code == 200
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("token", ["", "two words", "snow☃", "line\nbreak"])
def test_a_token_that_no_header_carries(bm25, token):
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        create_app(bm25, token=token)
    assert not token or token not in str(caught.value)


def test_loading_ready_stopping(bm25):
    service = SearchService()
    client = create_app(service).test_client()
    states = []
    for step in (lambda: None, lambda: service.open(bm25), service.stop):
        step()
        health, search = client.get("/health"), client.post("/search", json={"queries": ["paris"], "top_k": 1})
        states.append((health.get_json()["status"], health.status_code, search.status_code))
        assert search.status_code == 200 or "Retry-After" in search.headers
    assert states == [("loading", 503, 503), ("ready", 200, 200), ("stopping", 503, 503)]


def test_too_many_waiting_queries_get_a_429():
    """One query is searched, another waits, and there is room for one."""
    entered, gate = threading.Semaphore(0), threading.Event()

    class Gated:
        name = "gated"

        def __len__(self) -> int:
            return 1

        def search(self, queries, top_k):
            entered.release()
            assert gate.wait(30)
            return [() for _ in queries]

    service = SearchService(limits=BatchLimits(max_waiting=1, workers=1))
    service.open(Gated())
    client = create_app(service).test_client()
    threads = []
    for query in ("searched", "waiting"):
        threads.append(threading.Thread(target=service.search, args=([query], 1)))
        threads[-1].start()
        if query == "searched":
            assert entered.acquire(timeout=10)
    while "retriever_waiting_queries 1.0" not in service.metrics.render().decode():
        time.sleep(0.01)
    answer = client.post("/search", json={"queries": ["one more"], "top_k": 1})
    gate.set()
    for thread in threads:
        thread.join(10)
    refused(answer, "wait", 429)
    assert answer.headers["Retry-After"] == "1"


def test_one_request_may_hold_more_queries_than_may_wait(bm25):
    service = SearchService(limits=BatchLimits(max_waiting=16))
    service.open(bm25)
    queries = [f"paris {number}" for number in range(101)]
    answer = create_app(service).test_client().post("/search", json={"queries": queries, "top_k": 1}).get_json()
    assert [hits[0]["id"] for hits in answer["results"]] == ["p3"] * 101


def test_metrics(bm25):
    service = SearchService(cache_size=10)
    client = create_app(service).test_client()
    assert "retriever_ready 0.0" in client.get("/metrics").get_data(as_text=True)
    service.open(bm25)
    for _ in range(2):
        client.post("/search", json={"queries": ["paris", "zzz"], "top_k": 1})
    client.post("/search", data=b"hello")
    client.get("/wp-admin")
    text = client.get("/metrics").get_data(as_text=True)
    for line in (
        "retriever_ready 1.0",
        'retriever_requests_total{path="/search",status="200"} 2.0',
        'retriever_requests_total{path="/search",status="400"} 1.0',
        'retriever_requests_total{path="other",status="404"} 1.0',
        'retriever_queries_total{answered="by a search"} 2.0',
        'retriever_queries_total{answered="from the cache"} 2.0',
        "retriever_batch_queries_count 1.0",
        "retriever_batch_queries_sum 2.0",
        "retriever_batch_seconds_count 1.0",
        "retriever_waiting_queries 0.0",
        'retriever_request_seconds_count{path="/search"} 3.0',
    ):
        assert line in text.splitlines(), line


def test_concurrent_callers_share_a_search_over_http(serve_index, bm25):
    """Three callers while both workers search: the next search is of all three."""
    batches: list[int] = []
    service = SearchService()
    entered, gate = threading.Semaphore(0), threading.Event()

    class Gated:
        name = "gated"

        def __len__(self) -> int:
            return 1

        def search(self, queries, top_k):
            batches.append(len(queries))
            entered.release()
            assert gate.wait(30)
            return bm25.search(queries, top_k)

    async def scenario(url: str) -> int:
        async with http_retriever(url, attempts=1) as client:
            asked = []
            for query in ("paris", "france"):
                asked.append(asyncio.ensure_future(client.search(SearchRequest(query, 1))))
                assert await asyncio.to_thread(entered.acquire, timeout=10)
            asked += [asyncio.ensure_future(client.search(SearchRequest(q, 1))) for q in ("twin", "nolan", "spirit")]
            while "retriever_waiting_queries 3.0" not in service.metrics.render().decode():
                await asyncio.sleep(0.01)
            gate.set()
            return sum(map(len, await asyncio.gather(*asked)))

    with serve_index(Gated(), service) as url:
        assert asyncio.run(asyncio.wait_for(scenario(url), 30)) >= 4
    assert batches == [1, 1, 3]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
counts = st.integers(-3, 15) | json_values
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "queries": st.lists(st.text(max_size=60) | json_values, max_size=6) | json_values,
        "query": st.text(max_size=60) | st.lists(st.text(max_size=60) | json_values, max_size=6) | json_values,
        **{key: counts for key in ("top_k", "k", "topk", "top_n")},
        **{key: st.booleans() | json_values for key in ("return_scores", "return_score")},
    },
)
bodies = st.binary(max_size=200) | (json_values | nearly_right).map(lambda row: json.dumps(row).encode())
paths = st.sampled_from([*PATHS, "/health", "/metrics", "/", "/search/../x", "//search", "/%00"])
methods = st.sampled_from(["POST"] * 6 + ["GET", "PUT", "HEAD", "OPTIONS"])
EXPECTED = {200, 308, 400, 404, 405, 413}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=paths, method=methods, body=bodies)
def test_no_request_makes_the_app_fail(client, path, method, body):
    assert client.open(path, method=method, data=body).status_code in EXPECTED


def ask_over_http(url: str, path: str, method: str, body: bytes) -> int:
    request = urllib.request.Request(url + path, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.slow
def test_thousands_of_requests_over_http_and_no_5xx(serve_index, bm25):
    """At least 2,000 requests of every kind to the server as it is deployed."""
    seen: dict[int, int] = {}

    @settings(max_examples=2500, suppress_health_check=list(HealthCheck))
    @given(path=paths, method=methods, body=bodies)
    def fuzz(path, method, body):
        status = ask_over_http(url, path, method, body)
        seen[status] = seen.get(status, 0) + 1
        assert status in EXPECTED

    with serve_index(bm25, **LIMITS) as url:
        fuzz()
    assert sum(seen.values()) >= 2000 and seen[200] > 100 and seen[400] > 100, seen
