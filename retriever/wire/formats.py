"""The wire formats: this project's own and those of the published systems, both directions in one row each.

    own               POST /search        {"queries": [q, ...], "top_k": 3}
                                          {"results": [[{"id", "title", "text", "score"}, ...], ...]}
    r1_searcher       POST /queries       {"queries": [q, ...], "k": 3}
                                          {"queries": [q, ...], "answers": [["title   text", ...], ...]}
    search_r1         POST /retrieve      {"queries": [q, ...], "topk": 3, "return_scores": true}
                                          {"result": [[{"document": {"id", "contents"}, "score"}, ...], ...]}
                                          without scores {"result": [[{"id", "contents"}, ...], ...]}
    zerosearch        POST /retrieve      {"query": q, "top_k": 5}
                                          [{"text"}, ...]
    research          POST /search        {"query": q, "top_n": 5, "return_score": false}
                                          [{"id", "contents"}, ...]      with scores [[document, ...], [score, ...]]
    research_batch    POST /batch_search  {"query": [q, ...], "top_n": 5, "return_score": false}
                                          the same as lists of lists

verl, SkyRL and slime speak `search_r1`. `contents` is the title in quotes, a line break, and the text, as in the
wiki-18 corpus. Where two formats share a path, the key that holds the query tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from retriever.passage import Hit, Hits
from retriever.wire import answers
from retriever.wire.bodies import Ask, RequestLimits, WireError, dump, is_int, load, show


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One system's way to ask for a search and to answer it."""

    name: str
    path: str
    """The path of its servers, by POST."""
    query_key: str
    count_key: str
    default_count: int | None
    """Hits per query where the request does not say, or says null; None: it must say."""
    scores_key: str | None
    """The key that asks for scores; None: the format always or never carries them."""
    encode_results: Callable[[Ask, Sequence[Hits]], object]
    decode_results: Callable[[object], Sequence[Sequence[Hit]]]
    """From the answer's JSON to one list per query, each of hits; the caller checks the counts."""
    single: bool = False
    """Whether the query key holds one string instead of a list."""
    blank_query: bool = True
    """Whether a query without any character but white space is legal."""
    tells_health: bool = False
    """Whether its servers answer GET /health as `retriever.wire.bodies` has it."""

    def encode_request(self, ask: Ask) -> bytes:
        """Body of a request."""
        row: dict[str, object] = {self.query_key: ask.queries[0] if self.single else list(ask.queries)}
        row[self.count_key] = ask.top_k
        if self.scores_key is not None:
            row[self.scores_key] = ask.scores
        return dump(row)

    def encode_answer(self, ask: Ask, results: Sequence[Hits]) -> bytes:
        """Body of the answer; result i belongs to query i."""
        return dump(self.encode_results(ask, results))

    def decode_answer(self, body: bytes, ask: Ask) -> list[Hits]:
        """Results of an answer. Raises WireError, also unless they are one per query, of at most `top_k` hits."""
        results = self.decode_results(load(body))
        if len(results) != len(ask.queries):
            raise WireError(f"expected {len(ask.queries)} results for {len(ask.queries)} queries, found {len(results)}")
        for hits in results:
            if len(hits) > ask.top_k:
                raise WireError(f"expected at most {ask.top_k} hits per query, found {len(hits)}")
        return [tuple(hits) for hits in results]

    def decode_request(self, row: Mapping[str, object], limits: RequestLimits) -> Ask:
        """Reads a request's JSON object. Raises WireError."""
        queries = self._queries(row.get(self.query_key), limits)
        count = row.get(self.count_key)
        if count is None:
            count = self.default_count
        if not isinstance(count, int) or not is_int(count) or not 1 <= count <= limits.max_top_k:
            raise WireError(f"'{self.count_key}' must be an integer from 1 to {limits.max_top_k}, found {show(count)}")
        scores = True if self.scores_key is None else row.get(self.scores_key, False)
        if not isinstance(scores, bool):
            raise WireError(f"'{self.scores_key}' must be true or false, found {show(scores)}")
        return Ask(tuple(queries), count, scores)

    def _queries(self, given: object, limits: RequestLimits) -> list[str]:
        key = self.query_key
        if self.single:
            return [self._query(given, f"'{key}'", limits)]
        if not isinstance(given, list) or not given:
            raise WireError(f"'{key}' must be a non-empty list of strings, found {show(given)}")
        if len(given) > limits.max_queries:
            raise WireError(f"'{key}' may hold at most {limits.max_queries} queries, found {len(given)}")
        return [self._query(query, f"'{key}[{position}]'", limits) for position, query in enumerate(given)]

    def _query(self, query: object, where: str, limits: RequestLimits) -> str:
        if not isinstance(query, str):
            raise WireError(f"{where} must be a string, found {show(query)}")
        if len(query) > limits.max_query_chars:
            raise WireError(f"{where} may have {limits.max_query_chars} characters at most, found {len(query)}")
        if not query.isascii() and any("\ud800" <= c <= "\udfff" for c in query):
            raise WireError(f"{where} holds half a surrogate pair, which is not text")
        if not self.blank_query and not query.strip():
            raise WireError(f"{where} is empty; this format refuses empty queries")
        return query


OWN = WireFormat(
    name="own",
    path="/search",
    query_key="queries",
    count_key="top_k",
    default_count=None,
    scores_key=None,
    encode_results=answers.encode_own,
    decode_results=answers.decode_own,
    tells_health=True,
)

FORMATS: Mapping[str, WireFormat] = MappingProxyType(
    {
        row.name: row
        for row in (
            OWN,
            WireFormat(
                name="r1_searcher",
                path="/queries",
                query_key="queries",
                count_key="k",
                default_count=3,
                scores_key=None,
                encode_results=answers.encode_r1_searcher,
                decode_results=answers.decode_r1_searcher,
            ),
            WireFormat(
                name="search_r1",
                path="/retrieve",
                query_key="queries",
                count_key="topk",
                default_count=3,
                scores_key="return_scores",
                encode_results=answers.encode_search_r1,
                decode_results=answers.decode_search_r1,
            ),
            WireFormat(
                name="zerosearch",
                path="/retrieve",
                query_key="query",
                count_key="top_k",
                default_count=5,
                scores_key=None,
                encode_results=answers.encode_zerosearch,
                decode_results=answers.decode_zerosearch,
                single=True,
            ),
            WireFormat(
                name="research",
                path="/search",
                query_key="query",
                count_key="top_n",
                default_count=10,
                scores_key="return_score",
                encode_results=answers.encode_research,
                decode_results=answers.decode_research,
                single=True,
                blank_query=False,
            ),
            WireFormat(
                name="research_batch",
                path="/batch_search",
                query_key="query",
                count_key="top_n",
                default_count=10,
                scores_key="return_score",
                encode_results=answers.encode_research_batch,
                decode_results=answers.decode_research_batch,
            ),
        )
    }
)
"""All formats by name."""


def find_format(name: str) -> WireFormat:
    """The row of `FORMATS`. Raises ValueError for an unknown name."""
    if name not in FORMATS:
        raise ValueError(f"unknown wire format {name!r}; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def formats_at(path: str) -> tuple[WireFormat, ...]:
    """The formats that share a path, in the table's order."""
    return tuple(row for row in FORMATS.values() if row.path == path)


def format_of_request(row: Mapping[str, object], formats: Sequence[WireFormat]) -> WireFormat:
    """Which of the formats of one path a request is in; the first where none of their query keys is there."""
    return next((each for each in formats if each.query_key in row), formats[0])
