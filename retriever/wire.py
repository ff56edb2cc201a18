"""The HTTP bodies, both directions side by side: what one end writes, the other reads.

Own format     POST /search   {"queries": [q, ...], "top_k": 3}
                              {"results": [[{"id", "title", "text", "score"}, ...], ...]}
R1-Searcher's  POST /queries  {"queries": [q, ...], "k": 3}                          k may be left out
                              {"queries": [q, ...], "answers": [["title   text", ...], ...]}
both           GET /health    {"status": "ready", "index": "bm25", "passages": 9002}
               4xx and 5xx    {"error": "one line"}

`encode_*` gives bytes; `decode_*` takes bytes and raises `WireError` on anything but the format above.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from retriever.passage import Hit, Hits, Passage

R1_DEFAULT_K = 3


class WireError(ValueError):
    """A body that is not in the format; the message is one line and says what is wrong."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a server accepts in one request."""

    max_top_k: int = 100
    max_queries: int = 1024
    max_query_chars: int = 8192


@dataclass(frozen=True, slots=True)
class Health:
    """A service that is ready to answer."""

    status: str
    index: str
    passages: int


def encode_request(queries: Sequence[str], top_k: int) -> bytes:
    """Body of POST /search."""
    return _dump({"queries": list(queries), "top_k": top_k})


def decode_request(body: bytes, limits: RequestLimits) -> tuple[list[str], int]:
    """Queries and top_k of POST /search. Raises WireError."""
    return _queries_and_count(_load_object(body), "top_k", None, limits)


def encode_results(results: Sequence[Hits]) -> bytes:
    """Answer of POST /search."""
    return _dump({"results": [[_row_of_hit(hit) for hit in hits] for hits in results]})


def decode_results(body: bytes, count: int, top_k: int) -> list[Hits]:
    """Results of POST /search. Raises WireError, also unless they are `count` of at most `top_k` hits."""
    results = _load_object(body).get("results")
    if not isinstance(results, list):
        raise WireError(f"expected a list in 'results', got {_show(results)}")
    if len(results) != count:
        raise WireError(f"expected {count} results for {count} queries, got {len(results)}")
    for rows in results:
        if not isinstance(rows, list):
            raise WireError(f"expected a list of hits per query, got {_show(rows)}")
        if len(rows) > top_k:
            raise WireError(f"expected at most {top_k} hits per query, got {len(rows)}")
    return [tuple(_hit_of_row(row) for row in rows) for rows in results]


def decode_r1_request(body: bytes, limits: RequestLimits) -> tuple[list[str], int]:
    """Queries and k of POST /queries. Raises WireError."""
    return _queries_and_count(_load_object(body), "k", R1_DEFAULT_K, limits)


def encode_r1_results(queries: Sequence[str], results: Sequence[Hits]) -> bytes:
    """Answer of POST /queries: every hit is one line, without scores."""
    return _dump({"queries": list(queries), "answers": [[r1_line(hit.passage) for hit in hits] for hits in results]})


def r1_line(passage: Passage) -> str:
    """A passage as R1-Searcher's servers send it: title, three spaces, text, on one line."""
    line = f"{passage.title}   {passage.text}" if passage.title else passage.text
    return " ".join(line.splitlines())


def encode_health(health: Health) -> bytes:
    """Answer of GET /health."""
    return _dump({"status": health.status, "index": health.index, "passages": health.passages})


def decode_health(body: bytes) -> Health:
    """Content of a health answer. Raises WireError."""
    row = _load_object(body)
    status, index, passages = row.get("status"), row.get("index"), row.get("passages")
    if not isinstance(status, str) or not isinstance(index, str) or not _is_int(passages):
        raise WireError(f"expected status, index and passages, got {_show(row)}")
    return Health(status, index, int(str(passages)))


def encode_error(message: str) -> bytes:
    """Body of a 4xx or 5xx answer."""
    return _dump({"error": message})


def decode_error(body: bytes) -> str:
    """The message of an error answer, or the start of whatever came instead."""
    try:
        message = _load_object(body).get("error")
    except WireError:
        message = None
    return message if isinstance(message, str) else body[:200].decode("utf-8", "replace").strip()


def _queries_and_count(
    row: dict[str, object], count_key: str, default: int | None, limits: RequestLimits
) -> tuple[list[str], int]:
    queries = row.get("queries")
    if not isinstance(queries, list) or not queries:
        raise WireError(f"'queries' must be a non-empty list of strings, got {_show(queries)}")
    if len(queries) > limits.max_queries:
        raise WireError(f"'queries' may hold at most {limits.max_queries} queries, got {len(queries)}")
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise WireError(f"'queries[{position}]' must be a string, got {_show(query)}")
        if len(query) > limits.max_query_chars:
            raise WireError(
                f"'queries[{position}]' may have {limits.max_query_chars} characters at most, got {len(query)}"
            )
        if not query.isascii() and any("\ud800" <= c <= "\udfff" for c in query):
            raise WireError(f"'queries[{position}]' holds half a surrogate pair, which is not text")
    count = row.get(count_key, default)
    if not isinstance(count, int) or not _is_int(count) or not 1 <= count <= limits.max_top_k:
        raise WireError(f"'{count_key}' must be an integer from 1 to {limits.max_top_k}, got {_show(count)}")
    return queries, count


def _row_of_hit(hit: Hit) -> dict[str, object]:
    passage = hit.passage
    return {"id": passage.id, "title": passage.title, "text": passage.text, "score": hit.score}


def _hit_of_row(row: object) -> Hit:
    if not isinstance(row, dict):
        raise WireError(f"expected a hit with id, title, text and score, got {_show(row)}")
    identifier, title, text, score = (row.get(key) for key in ("id", "title", "text", "score"))
    if not (isinstance(identifier, str) and isinstance(title, str) and isinstance(text, str)):
        raise WireError(f"expected strings in a hit's id, title and text, got {_show(row)}")
    return Hit(Passage(identifier, title, text), _finite(score))


def _finite(score: object) -> float:
    if isinstance(score, int | float) and not isinstance(score, bool):
        try:
            if math.isfinite(score):
                return float(score)
        except OverflowError:  # an integer beyond every float
            pass
    raise WireError(f"expected a finite number as a hit's score, got {_show(score)}")


def _load_object(body: bytes) -> dict[str, object]:
    try:
        row = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise WireError(f"the body is not UTF-8 ({error.reason} at byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise WireError(f"the body is not JSON ({error}): {_show(body[:80])}") from error
    if not isinstance(row, dict):
        raise WireError(f"the body must be a JSON object, got {_show(row)}")
    return row


def _dump(row: object) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _show(value: object) -> str:
    # Slicing first: the repr of a hostile value may be as large as the body.
    text = repr(value[:120]) if isinstance(value, list | str | bytes) else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
