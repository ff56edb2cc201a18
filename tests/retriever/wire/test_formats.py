"""Every system's wire format: golden exchanges with the server, and there and back again with our own client."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.services.http_clients import http_retriever

from retriever import Hit, Passage, RetrieverBadResponse, RetrieverRejected, SearchRequest
from retriever.server.app import create_app
from retriever.wire.bodies import Ask, WireError
from retriever.wire.formats import FORMATS, find_format, format_of_request, formats_at
from retriever.written import contents, passage_of_contents, passage_of_r1_line, r1_line, title_and_text

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "retriever_peers.json").read_text(encoding="utf-8"))
PEERS = sorted(set(FORMATS) - {"own"})


class GoldenIndex:
    """Finds the golden file's passages for every query but one."""

    name = "golden"
    hits = tuple(Hit(Passage(row["id"], row["title"], row["text"]), row["score"]) for row in GOLDEN["passages"])

    def __len__(self) -> int:
        return len(self.hits)

    def search(self, queries, top_k):
        return [() if query == "nothing" else self.hits[:top_k] for query in queries]


@pytest.fixture(scope="module")
def client():
    return create_app(GoldenIndex()).test_client()


@pytest.fixture
def golden_url(serve_index):
    with serve_index(GoldenIndex()) as url:
        yield url


@pytest.mark.parametrize("exchange", GOLDEN["exchanges"], ids=lambda exchange: exchange["name"])
def test_the_peers_own_requests_get_the_answers_they_expect(client, exchange):
    answer = client.post(exchange["path"], data=exchange["request"].encode(), content_type="application/json")
    assert answer.status_code == 200 and answer.content_type == "application/json"
    assert answer.get_data() == exchange["answer"].encode() + b"\n"


def test_every_format_has_a_golden_exchange():
    seen = set()
    for exchange in GOLDEN["exchanges"]:
        keys = json.loads(exchange["request"])
        seen.add(format_of_request(keys, formats_at(exchange["path"])).name)
    assert seen == set(FORMATS)


def test_health_says_what_every_peer_looks_at(client):
    assert client.get("/health").get_data() == GOLDEN["health"].encode() + b"\n"


def test_research_refuses_an_empty_query_as_its_own_server_does(client):
    assert client.post("/search", json={"query": " ", "top_n": 1}).status_code == 400
    assert client.post("/search", json={"queries": [" "], "top_k": 1}).status_code == 200


@pytest.mark.parametrize("key", ["return_scores", "return_score"])
def test_a_flag_that_is_not_one(client, key):
    path = "/retrieve" if key == "return_scores" else "/batch_search"
    body = {"queries": ["q"], "query": ["q"], key: "yes"}
    assert f"'{key}' must be true or false" in client.post(path, json=body).get_json()["error"]


def search(url: str, query: str, top_k: int, **settings):
    async def once():
        async with http_retriever(url, attempts=1, **settings) as client:
            return await client.search(SearchRequest(query, top_k)), await client.health()

    return asyncio.run(once())


@pytest.mark.parametrize("wire", PEERS)
def test_our_client_speaks_every_format(golden_url, wire):
    hits, health = search(golden_url, "who?", 5, wire=wire)
    found = [(hit.passage.title, hit.passage.text) for hit in hits]
    if wire == "r1_searcher":
        assert found == [("Alû", "A vengeful spirit. It goes by night."), ("", 'He said "no".')]
    else:
        assert found == [(hit.passage.title, hit.passage.text) for hit in GoldenIndex.hits]
    if find_format(wire).scores_key:
        assert hits == GoldenIndex.hits
    assert hits[0].score > hits[1].score and hits[0].passage.id != hits[1].passage.id
    assert (health.status, health.index) == ("ready", wire)
    assert search(golden_url, "nothing", 3, wire=wire)[0] == ()


def test_a_url_with_the_searchs_path_is_understood(golden_url):
    assert search(f"{golden_url}/retrieve", "who?", 1, wire="search_r1")[0] == GoldenIndex.hits[:1]


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown wire format 'grpc'; known: own, r1_searcher, search_r1"):
        http_retriever("http://x", wire="grpc")


DOCUMENT = {"id": "1", "contents": '"T"\nx'}


@pytest.mark.parametrize(
    ("wire", "answer", "said"),
    [
        ("r1_searcher", {"answers": [[7]]}, "line of text"),
        ("r1_searcher", {"results": [[]]}, "'answers'"),
        ("search_r1", {"result": [["text"]]}, "expected a hit"),
        ("search_r1", {"result": [[{"document": "text"}]]}, "expected a hit"),
        ("search_r1", {"result": [[{"document": DOCUMENT, "score": "1"}]]}, "finite"),
        ("search_r1", {"result": []}, "expected 1 results"),
        ("search_r1", [], "JSON object"),
        ("zerosearch", [{"contents": "x"}], "'text'"),
        ("zerosearch", {"text": "x"}, "list of hits"),
        ("research", [DOCUMENT], "a pair"),
        ("research", [[DOCUMENT], []], "a score per document"),
        ("research_batch", [[[DOCUMENT]], []], "for 1 queries"),
        ("research_batch", [[[DOCUMENT]], [["1"]]], "finite"),
        ("research_batch", "text", "list of documents and scores"),
    ],
)
def test_an_unusable_answer_is_a_bad_response(scripted_server, http_reply, wire, answer, said):
    async def scenario():
        server = scripted_server(http_reply(200, json.dumps(answer).encode()))
        async with server.running(), http_retriever(server.url, wire=wire) as client:
            with pytest.raises(RetrieverBadResponse, match=said):
                await client.search(SearchRequest("q", 3))

    asyncio.run(scenario())


def test_a_fastapi_servers_refusal_is_quoted(scripted_server, http_reply):
    async def scenario():
        server = scripted_server(http_reply(400, b'{"detail": "Query content cannot be empty"}'))
        async with server.running(), http_retriever(server.url, wire="research") as client:
            with pytest.raises(RetrieverRejected) as caught:
                await client.search(SearchRequest("q", 3))
            return caught.value.reason

    assert asyncio.run(scenario()) == "Query content cannot be empty"


def test_r1_line_is_one_line():
    assert r1_line(Passage("1", "A", "b\nc\r\nd")) == "1\tA   b c d" and r1_line(Passage("1", "", "b")) == "1\tb"


R1_CORPORA = [
    # wiki_corpus_index_bulid/samples/train_kilt_full_page_sample_100.tsv and train_np_title_abs_sample_100.tsv
    ("7\tA (letter)   A (letter) is the first.", ("7", "A (letter)", "A (letter) is the first.")),
    ("0\tTitle: Blue Lamp Text:  Blue Lamp is a hotel.", ("0", "Blue Lamp", "Blue Lamp is a hotel.")),
    ('0\t"Title: Blue Lamp Text:  The ""Blue Lamp"" is."', ("0", "Blue Lamp", 'The "Blue Lamp" is.')),
    ('3\t"Weird Al" is a singer.', ("3", "", '"Weird Al" is a singer.')),
    ("1984 was a year.", ("", "", "1984 was a year.")),
]


@pytest.mark.parametrize(("line", "passage"), R1_CORPORA)
def test_lines_of_both_of_r1_searchers_corpora(line, passage):
    assert passage_of_r1_line(line) == Passage(*passage)


@given(st.builds(Passage, st.text(max_size=5), st.text(max_size=8), st.text(max_size=12)))
def test_what_r1_searchers_clients_strip_is_the_number(passage):
    """`re.sub(r"^\\d+\\s+", "", line)`, in evaluation/eval_search_loacl.py and the trainer."""
    line = r1_line(passage)
    stripped = re.sub(r"^\d+\s+", "", line)
    assert stripped == line.partition("\t")[2].lstrip() or not line.partition("\t")[2].strip()


def test_a_title_that_says_neither_is_text():
    assert title_and_text("Title without the other word") == ("", "Title without the other word")


one_line = st.text().filter(lambda text: text == " ".join(text.splitlines()))
hits_lists = st.lists(
    st.builds(
        Hit, st.builds(Passage, st.text(), one_line, st.text()), st.floats(allow_nan=False, allow_infinity=False)
    ),
    max_size=3,
).map(tuple)


@given(st.builds(Passage, st.text(), one_line, st.text()))
def test_contents_hold_title_and_text(passage):
    assert passage_of_contents(passage.id, contents(passage)) == passage


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("r1_searcher", "zerosearch")])
@given(data=st.data())
def test_what_one_end_writes_the_other_reads(name, data):
    wire_format = find_format(name)
    results = data.draw(st.lists(hits_lists, min_size=1, max_size=1 if wire_format.single else 3))
    ask = Ask(tuple(f"q{i}" for i in range(len(results))), 3)
    assert wire_format.decode_answer(wire_format.encode_answer(ask, results), ask) == results


@pytest.mark.parametrize("name", FORMATS)
@given(
    body=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["results", "result", "answers", "text", "document", "id"]), inner, max_size=3
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_answer_makes_the_client_fail_otherwise(name, body):
    try:
        results = find_format(name).decode_answer(body, Ask(("q",), 3))
    except WireError:
        return
    assert len(results) == 1
