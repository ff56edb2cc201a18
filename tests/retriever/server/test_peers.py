"""The peers' clients against our server over HTTP, client by form; and our client at servers of theirs."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from support.services import peer_clients
from support.services.http_clients import http_retriever
from support.services.peer_clients import CLIENTS, post
from support.services.search_servers import serve

from foundation.errors import InputError
from r1_searcher.launch.preflight import check_retriever
from retriever import Passage, SearchRequest
from retriever.index.bm25 import Bm25Index
from retriever.sources import open_retriever
from retriever.wire.formats import FORMATS, format_of_request, formats_at

PASSAGES = [
    Passage("7", "1984 Summer Olympics", "The games were held in Los Angeles."),
    Passage("a-8", "1900 in France", "Paris is the capital of France."),
    Passage("9", "", "42 is a number of rowers."),
]
LISTS = ("search_r1", "verl", "research_batch", "flashrag_remote", "r1_searcher")
"""The clients that send all queries of a turn at once."""


@pytest.fixture(scope="module")
def url():
    with serve(Bm25Index.build(PASSAGES)) as url:
        yield url


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_shows_the_passages_whole(url, name):
    """The years at the front of titles are no row numbers, the texts of both passages end up with their query."""
    olympics, france, rowers = CLIENTS[name](url, ["summer olympics", "capital of France", "rowers"])
    assert "1984 Summer Olympics" in olympics and "Los Angeles." in olympics
    assert "1900 in France" in france and "Paris is the capital of France." in france
    assert "42 is a number of rowers." in rowers


@pytest.mark.parametrize("name", CLIENTS)
def test_a_turn_without_queries(url, name):
    """Search-R1's trainer sends an empty list whenever no episode searches in a turn (`execute_predictions`)."""
    assert CLIENTS[name](url, []) == []


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "research_single"])
@pytest.mark.parametrize("query", ["", "  ", "?", "zzz", "\0", "é\u200b"])
def test_a_query_that_finds_nothing(url, name, query):
    (shown,) = CLIENTS[name](url, [query])
    assert shown in ("", "None")


@pytest.mark.parametrize("name", LISTS)
def test_the_queries_of_a_whole_batch(url, name):
    """512 questions x 5 samples: scripts/nq_hotpotqa/v0.2/train_grpo.sh of Search-R1."""
    shown = CLIENTS[name](url, [f"capital {number}" for number in range(2560)])
    assert len(shown) == 2560 and all("Paris" in each for each in shown)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_runaway_query_does_not_end_the_training_of_the_others(url, name):
    """500 new tokens of a policy may be tens of thousands of characters; the peers' encoders cut, too."""
    (shown,) = CLIENTS[name](url, ["capital " * 6000])
    assert "Paris" in shown


def test_more_queries_than_may_wait(url):
    queries = [f"capital {number % 50}" for number in range(40_000)]
    assert len(post(f"{url}/retrieve", {"queries": queries, "topk": 1})["result"]) == 40_000


ONE_HIT = {"result": [[{"id": "9", "contents": '""\n42 is a number of rowers.'}]]}
SCORED = {"document": ONE_HIT["result"][0][0]}
FORMS = [
    # path, request, the name of its form
    ("/retrieve", {"queries": ["rowers"], "topk": "3"}, "search_r1"),
    ("/retrieve", {"queries": ["rowers"], "topk": 3.0, "return_scores": 0}, "search_r1"),
    ("/retrieve", {"queries": ["rowers"], "topk": "3.0", "return_scores": "false"}, "search_r1"),
    ("/retrieve", {"queries": ["rowers"], "topk": None, "return_scores": None}, "search_r1"),
    ("/retrieve", {"queries": ["rowers"], "topk": 0}, "search_r1"),  # its server: `if not request.topk`
    ("/retrieve", {"queries": ["rowers"]}, "search_r1"),  # google_search_server.py and serp_search_server.py
    ("/retrieve", {"queries": ["rowers"], "k": 1}, "search_r1"),
    ("/retrieve/", {"queries": ["rowers"], "topk": 3}, "search_r1"),  # FastAPI follows the slash
    ("/retrieve", {"queries": ["rowers"], "query": None, "topk": 3}, "search_r1"),
    ("/retrieve", {"queries": ["rowers"], "query": "olympics", "topk": 3}, "search_r1"),
    ("/retrieve", {"queries": None, "query": "rowers", "topk": 3}, "search_r1"),
    ("/retrieve", {"queries": [], "query": "rowers", "topk": 3}, "search_r1"),
    ("/retrieve", {"query": "rowers", "topk": 3}, "search_r1"),
    ("/retrieve", {"query": "rowers", "return_scores": False}, "search_r1"),
    ("/retrieve", {"query": "rowers", "top_k": 5, "return_scores": True}, "search_r1 scored"),
    ("/retrieve", {"query": "rowers", "topk": 1, "return_scores": 1}, "search_r1 scored"),
    ("/retrieve", {"query": "rowers", "top_k": 5}, "zerosearch"),
    ("/retrieve", {"query": "rowers"}, "zerosearch"),
    ("/retrieve", {"query": "rowers", "top_k": "5"}, "zerosearch"),
    ("/queries", {"queries": ["rowers"], "k": "3"}, "r1_searcher"),
    ("/queries", {"queries": ["rowers"], "top_k": 3}, "r1_searcher"),
    ("/search", {"query": "rowers", "top_n": 5.0}, "research"),
    ("/search", {"query": "rowers", "top_k": 5}, "research"),
    ("/search", {"queries": ["rowers"], "top_k": "5"}, "own"),
    ("/batch_search", {"query": ["rowers"], "top_n": None, "return_score": None}, "research_batch"),
]


def form_of(answer) -> str:
    """Whose answer it is, by its shape."""
    if isinstance(answer, list):
        first = answer[0]
        return "research_batch" if isinstance(first, list) else "zerosearch" if "text" in first else "research"
    if "results" in answer or "answers" in answer:
        return "own" if "results" in answer else "r1_searcher"
    return "search_r1 scored" if "document" in answer["result"][0][0] else "search_r1"


@pytest.mark.parametrize(("path", "request_row", "form"), FORMS)
def test_the_form_is_told_by_all_keys_together(url, path, request_row, form):
    answer = post(url + path, request_row)
    assert form_of(answer) == form and "rowers" in json.dumps(answer) and "Olympics" not in json.dumps(answer)


REFUSED = [
    ("/retrieve", {"queries": "rowers", "topk": 3}, "'queries' must be a list"),
    ("/retrieve", {"topk": 3}, "'queries' must be a list"),
    ("/retrieve", {"query": ["rowers"], "topk": 3, "return_scores": True}, "'query' must be a string"),
    ("/retrieve", {"queries": ["rowers", None], "topk": 3}, "'queries[1]' must be a string"),
    ("/retrieve", {"queries": ["rowers"], "topk": 2.5}, "'topk' must be an integer from 1 to 100, found 2.5"),
    ("/retrieve", {"queries": ["rowers"], "topk": 10_000}, "from 1 to 100"),
    ("/retrieve", {"queries": ["rowers"], "return_scores": "perhaps"}, "true or false"),
    ("/search", {"query": " ", "top_n": 5}, "refuses empty queries"),
]


@pytest.mark.parametrize(("path", "request_row", "said"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(url, path, request_row, said):
    answer = post(url + path, request_row)
    assert set(answer) == {"error"} and said in answer["error"] and "\n" not in answer["error"]


def found(url: str, query: str = "summer olympics") -> list[str]:
    async def once():
        retriever = open_retriever(url)
        try:
            return await retriever.search(SearchRequest(query, 3)), await retriever.health()
        finally:
            await retriever.close()

    hits, health = asyncio.run(once())
    assert health.status == "ready"
    return [hit.passage.title for hit in hits]


ADDRESSES = ["/retrieve", "/queries", "/retrieve/", "?wire=search_r1", "/retrieve?wire=zerosearch", "?wire=research",
             "/search?wire=research", "/batch_search", "?wire=r1_searcher", "", "/search"]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_server_of_theirs_is_named_by_its_address(url, address):
    assert found(url + address) == ["1984 Summer Olympics"] and found(url + address, " ") == []
    check_retriever(url + address)


def test_several_addresses_of_one_format(url):
    assert found(f"{url}/retrieve, {url}") == ["1984 Summer Olympics"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://a:1/retrieve,http://a:1/queries", "must speak one format"),
        ("http://a:1?wire=grpc", "unknown wire format 'grpc'"),
        ("http://a:1?wire=", "unknown wire format ''"),
        ("http://a:1?format=own", "with \\?wire=NAME as its only option"),
    ],
)
def test_an_address_that_says_two_things(address, said):
    with pytest.raises(InputError, match=said):
        check_retriever(address)


WEB_HIT = {"document": {"contents": '"Paris"\nA city.'}}  # google_search_server.py: neither id nor score
FOREIGN = [
    # bare documents: retrieval_server.py without scores
    ("/retrieve", {"result": [[{"id": "1", "contents": '"Paris"\nA city.'}]]}, 1),
    ("/retrieve", {"result": [[{"document": {"id": 1, "contents": '"Paris"\nA city.'}, "score": 0.5}]]}, 1),
    ("/retrieve", {"result": [[WEB_HIT] * 7]}, 3),  # serp_search_server.py: up to 2 * topk + 1 results, no topk asked
    ("/retrieve", {"result": [[]]}, 0),
    ("/queries", {"answers": [["0\tTitle: Paris Text:  A city."]]}, 1),  # wiki_corpus_load.py, abstracts
    ("/queries", {"answers": [["0\tParis   A city."]]}, 1),  # wiki_corpus_load.py, KILT
    ("/retrieve?wire=zerosearch", [{"text": '"Paris"\nA city.'}], 1),
]


@pytest.mark.parametrize(("address", "answer", "count"), FOREIGN)
def test_what_their_servers_answer(scripted_server, http_reply, address, answer, count):
    async def scenario():
        server = scripted_server(http_reply(200, json.dumps(answer).encode()))
        async with server.running(), http_retriever(server.url + address, attempts=1) as client:
            return await client.search(SearchRequest("city", 3))

    hits = asyncio.run(scenario())
    assert [(hit.passage.title, hit.passage.text) for hit in hits] == [("Paris", "A city.")] * count
    assert all(hit.passage.id for hit in hits) and [hit.score for hit in hits] == sorted(
        (hit.score for hit in hits), reverse=True
    )


DOCS = (Path(__file__).parents[3] / "docs" / "retriever.md").read_text(encoding="utf-8")


def rows_below(head: str) -> list[list[str]]:
    """The rows of the table of the page with this head."""
    (text,) = re.findall(rf"^{re.escape(head)}\n\|-.*\n((?:\|.*\n)+)", DOCS, flags=re.M)
    return [line.strip("|").strip().split(" | ") for line in text.splitlines()]


def test_the_forms_of_the_page_are_answered_as_it_says(url):
    """Each request of the table, with a query in place of the dots."""
    seen = set()
    for client, request, answer in rows_below("| client | request | answer |"):
        (path, written), *_ = re.findall(r"`POST (/\w+)` `({.*?})`", request)
        row = json.loads(written.replace("[...]", '["rowers"]').replace('"..."', '"rowers"'))
        shown = json.dumps(post(url + path, row))
        named = [word for word in re.findall(r"`(\w+)`", answer) if word != "return_score"]
        assert "rowers" in shown and all(f'"{word}"' in shown for word in named), client
        seen.add(format_of_request(row, formats_at(path)).name)
        for other in re.findall(r"`POST (/\w+)`(?: |,|$)", request):
            seen |= {each.name for each in formats_at(other) if other != path}
    assert seen == set(FORMATS)


def table_of_clients(url: str, monkeypatch) -> list[str]:
    """Client by form: what it sends, and what its own code makes of our answers."""
    sent: list[str] = []

    def noting(address, payload):
        path = address.removeprefix(url)
        sent.append(format_of_request(payload, formats_at(path)).name)
        return post(address, payload)

    monkeypatch.setattr(peer_clients, "post", noting)
    rows = []
    for name, client in CLIENTS.items():
        several = client(url, ["olympics", "capital of France"])
        form, requests = sent[-1], len(sent)
        assert ["Los Angeles" in several[0], "Paris" in several[1]] == [True, True]
        assert (requests == 1) == (name in LISTS)  # of which whole batches are tested above
        assert client(url, []) == []
        none = "one request" if len(sent) > requests else "no request"
        found_nothing = {"": "an empty text", "None": "`None`"}[client(url, ["zzz"])[0]]
        batch = "one request, 2,560 texts" if requests == 1 else "a request each"
        assert "Paris" in client(url, ["capital " * 6000])[0]
        rows.append(f"| `{name}` | `{form}` | two texts | {none}, `[]` | {found_nothing} | {batch} | its beginning |")
        sent.clear()
    return rows


def test_the_table_of_clients_is_what_they_make_of_our_answers(url, monkeypatch):
    head = "| client | form | two queries | no query | nothing found | 2,560 queries | 48,000 characters |"
    assert [f"| {' | '.join(row)} |" for row in rows_below(head)] == table_of_clients(url, monkeypatch)
