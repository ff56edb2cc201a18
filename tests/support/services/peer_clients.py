"""The peers' search clients, written anew from their behaviour on the wire: what each sends, and what it makes of it.

Each is a function of the server's base address and the queries of one turn, and gives the text that its policy is
shown per query. An answer that the peer's own code would die at raises here, too.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_ROW_NUMBER = re.compile(r"^\d+\s+")
Client = Callable[[str, Sequence[str]], list[str]]


def post(url: str, payload: Mapping[str, Any]) -> Any:
    """What `requests.post(url, json=payload).json()` gives; an error's status is looked at by few of the clients."""
    body = json.dumps(payload).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", "Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def search_r1(url: str, queries: Sequence[str]) -> list[str]:
    """`search_r1/llm_agent/generation.py`: the queries of the whole batch at once, none of them, too."""
    found = post(f"{url}/retrieve", {"queries": list(queries), "topk": 3, "return_scores": True})["result"]
    return [_numbered(documents) for documents in found]


def verl(url: str, queries: Sequence[str]) -> list[str]:
    """`verl/tools/utils/search_r1_like_utils.py`."""
    answer = post(f"{url}/retrieve", {"queries": list(queries), "topk": 3, "return_scores": True})
    return [_numbered(documents) for documents in answer.get("result", [])]


def skyrl_gym(url: str, queries: Sequence[str]) -> list[str]:
    """`skyrl-gym/skyrl_gym/tools/search.py` as first published: one query, without the plural."""
    shown = []
    for query in queries:
        answer = post(f"{url}/retrieve", {"query": query, "topk": 3, "return_scores": True})
        shown.append(_numbered(answer["result"][0]))
    return shown


def skyrl_agent(url: str, queries: Sequence[str]) -> list[str]:
    """`skyrl-agent/skyrl_agent/tools/local_search.py`: one query in a list; exactly one result is asserted."""
    shown = []
    for query in queries:
        result = post(f"{url}/retrieve", {"queries": [query], "topk": 3, "return_scores": True})["result"]
        assert len(result) == 1
        shown.append(_numbered(result[0]))
    return shown


def slime(url: str, queries: Sequence[str]) -> list[str]:
    """`examples/search-r1/local_search_server.py`: without scores; bare documents."""
    shown = []
    for query in queries:
        result = post(f"{url}/retrieve", {"queries": [query], "topk": 3, "return_scores": False})
        rows = result.get("result", [[]])[0]
        shown.append("\n".join(row.get("contents", "") for row in rows))
    return shown


def research_batch(url: str, queries: Sequence[str]) -> list[str]:
    """`vllm_rollout.py` of ReSearch: a batch; a turn without a query sends an empty string."""
    answer = post(f"{url}/batch_search", {"query": list(queries), "top_n": 5})
    return ["\n\n".join(line["contents"] for line in item) for item in answer]


def research_single(url: str, queries: Sequence[str]) -> list[str]:
    """The same file's single search, which sends nothing for an empty query."""
    return [
        "\n\n".join(line["contents"] for line in post(f"{url}/search", {"query": query, "top_n": 5}))
        for query in queries
        if query
    ]


def flashrag_remote(url: str, queries: Sequence[str]) -> list[str]:
    """`src/flashrag/retriever/retriever.py` in ReSearch and ReCall: documents and scores, in two lists."""
    payload = {"query": list(queries), "top_n": 3, "return_score": True}
    documents, scores = post(f"{url}/batch_search", payload)
    assert [len(each) for each in documents] == [len(each) for each in scores]
    return ["\n\n".join(line["contents"] for line in item) for item in documents]


def zerosearch(url: str, queries: Sequence[str]) -> list[str]:
    """`llm_agent/generation.py` of ZeroSearch, mode wiki."""
    return [
        "\n".join(
            f"Doc {number}: {doc['text']}"
            for number, doc in enumerate(post(f"{url}/retrieve", {"query": query, "top_k": 5}), 1)
        )
        for query in queries
    ]


def r1_searcher(url: str, queries: Sequence[str]) -> list[str]:
    """`evaluation/eval_search_loacl.py` and the trainer: no request without queries; row numbers are stripped."""
    if not queries:
        return []
    answers = post(f"{url}/queries", {"queries": list(queries), "k": 5})["answers"]
    return [
        "".join(f"({number}){_ROW_NUMBER.sub('', line)}\n" for number, line in enumerate(lines, 1)) or "None"
        for lines in answers
    ]


def _numbered(documents: Sequence[Mapping[str, Any]]) -> str:
    shown = ""
    for number, item in enumerate(documents, 1):
        title, _, text = item["document"]["contents"].partition("\n")
        shown += f"Doc {number}(Title: {title}) {text}\n"
    return shown


CLIENTS: Mapping[str, Client] = {
    each.__name__: each
    for each in (
        search_r1,
        verl,
        skyrl_gym,
        skyrl_agent,
        slime,
        research_batch,
        research_single,
        flashrag_remote,
        zerosearch,
        r1_searcher,
    )
}
