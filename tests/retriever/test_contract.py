"""What every retriever promises, whatever is behind it: in-process, over HTTP, scripted."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

import retriever
from retriever import Hit, LocalRetriever, Passage, Retriever, SearchRequest
from retriever.client.http_retriever import HttpRetriever
from retriever.passage import Hits


class ScriptedRetriever:
    """Answers from a dict, as the fakes of episode tests do."""

    def __init__(self, answers: dict[str, Hits]) -> None:
        self.answers = answers

    async def search(self, request: SearchRequest) -> Hits:
        return self.answers.get(request.query, ())[: request.top_k]

    async def close(self) -> None:
        return None


@pytest.fixture(params=["local", "http", "scripted"])
def retriever_under_test(request, bm25, served_url) -> Retriever:
    if request.param == "local":
        return LocalRetriever(bm25)
    if request.param == "http":
        return HttpRetriever(served_url)
    return ScriptedRetriever({"akkadian spirit": bm25.search(["akkadian spirit"], 10)[0]})


def search(target: Retriever, query: str, top_k: int) -> Hits:
    async def once() -> Hits:
        try:
            return await target.search(SearchRequest(query, top_k))
        finally:
            await target.close()

    return asyncio.run(once())


def test_is_a_retriever(retriever_under_test):
    assert isinstance(retriever_under_test, Retriever)


def test_hits_are_ranked_whole_passages(retriever_under_test, passages):
    hits = search(retriever_under_test, "akkadian spirit", 10)
    assert isinstance(hits, tuple) and {hit.passage.id for hit in hits} == {"p0", "p1"}
    assert all(isinstance(hit, Hit) and hit.passage in passages for hit in hits)
    assert hits[0].score >= hits[1].score > 0


def test_top_k_is_an_upper_bound(retriever_under_test):
    assert len(search(retriever_under_test, "akkadian spirit", 1)) == 1


@pytest.mark.parametrize("query", ["", "zzz qqq", "?!", "日本語 \x00"])
def test_nothing_found_is_an_empty_answer(retriever_under_test, query):
    assert search(retriever_under_test, query, 3) == ()


def test_many_searches_at_once(retriever_under_test):
    async def many() -> list[Hits]:
        wanted = [SearchRequest("akkadian spirit", 1 + i % 2) for i in range(60)]
        results = await asyncio.gather(*(retriever_under_test.search(request) for request in wanted))
        await retriever_under_test.close()
        return results

    assert [len(hits) for hits in asyncio.run(many())] == [1, 2] * 30


def test_survives_a_second_event_loop_and_a_second_close(retriever_under_test):
    first = search(retriever_under_test, "akkadian spirit", 2)
    assert search(retriever_under_test, "akkadian spirit", 2) == first
    asyncio.run(retriever_under_test.close())


def test_context_never_leaves_the_process(scripted_server, http_reply):
    async def scenario() -> dict[str, object]:
        async with scripted_server(http_reply(200, b'{"results": [[]]}')).running() as server:
            client = HttpRetriever(server.url)
            await client.search(SearchRequest("q", 3, {"answer": "gold"}))
            await client.close()
            return server.bodies[0]

    assert asyncio.run(scenario()) == {"queries": ["q"], "top_k": 3}


@pytest.mark.parametrize(
    ("query", "top_k", "error"),
    [
        ("q", 0, ValueError),
        ("q", -1, ValueError),
        ("q", True, TypeError),
        ("q", "3", TypeError),
        (7, 3, TypeError),
    ],
)
def test_a_wrong_request_is_the_callers_bug(query, top_k, error):
    with pytest.raises(error):
        SearchRequest(query, top_k)


def test_a_bug_of_the_index_is_not_dressed_up_as_an_outage():
    class Broken:
        name = "broken"

        def __len__(self) -> int:
            return 1

        def search(self, queries, top_k):
            raise KeyError("bug")

    with pytest.raises(KeyError):
        search(LocalRetriever(Broken()), "q", 1)


def test_public_names_exist():
    assert all(hasattr(retriever, name) for name in retriever.__all__)
    assert Passage("1", "", "text").titled_text == "text"


def test_light_modules_import_without_heavy_libraries():
    code = (
        "import sys\n"
        "for name in ('torch', 'faiss', 'bm25s', 'flask', 'sentence_transformers', 'aiohttp'):\n"
        "    sys.modules[name] = None\n"
        "import retriever, retriever.passage, retriever.client.http_retriever, retriever.wire.bodies\n"
        "import retriever.index.corpus\n"
        "import retriever.index.bm25, retriever.index.dense, retriever.index.encoder, retriever.server\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_missing_library_is_named_with_the_pip_line():
    code = (
        "import sys; sys.modules['bm25s'] = None\n"
        "from retriever import Passage\n"
        "from retriever.index.bm25 import Bm25Index\n"
        "Bm25Index.build([Passage('1', 't', 'x')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "pip install bm25s" in done.stderr
