"""The web search services that speak JSON over HTTP: rows of `WEB_ENGINES`.

    serper       POST https://google.serper.dev/search         {"q", "num"}                 organic[]
    serpapi      GET  https://serpapi.com/search.json          ?engine=google&q=&num=       organic_results[]
    tavily       POST https://api.tavily.com/search            {"query", "max_results"}     results[]
    wikipedia    GET  https://en.wikipedia.org/w/api.php       ?generator=search&...        query.pages[]

Each row says how a question becomes a request and an answer becomes passages; their id is the page's address. Keys
come from the environment and go where the service wants them; nothing here logs them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlencode

from retriever.errors import RetrieverRejected, RetrieverUnavailable
from retriever.passage import Passage
from retriever.web.rate_limit import Rate
from retriever.wire.bodies import WireError, as_list, as_object, dump, show

MAX_TEXT_CHARS = 4000
"""A longer text of one result is cut: introductions of encyclopedias can be pages long."""


@dataclass(frozen=True, slots=True)
class WebQuery:
    """The question to a service."""

    text: str
    count: int
    """Results wanted, within what the service gives at once."""
    site: str
    """Host that results must come from; empty for the whole web."""

    @property
    def text_with_site(self) -> str:
        """The query with the operator that most engines know."""
        return f"{self.text} site:{self.site}" if self.site else self.text


@dataclass(frozen=True, slots=True)
class WebCall:
    """One HTTP request."""

    method: str
    parameters: Mapping[str, str]
    """Of the address; the key is not among them."""
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class WebEngine:
    """One service."""

    name: str
    url: str
    """May be replaced, by an option or the environment's `<NAME>_BASE_URL`."""
    call: Callable[[WebQuery], WebCall]
    parse: Callable[[Mapping[str, object]], list[Passage]]
    """From the answer's JSON. Raises WireError."""
    rate: Rate
    max_results: int
    """Results of one request at most."""
    max_query_chars: int
    """A longer query would be refused, and is cut."""
    key_variable: str = ""
    """Environment variable of the key; empty where none is needed."""
    key_header: str = ""
    """Header that carries the key."""
    key_prefix: str = ""
    key_parameter: str = ""
    """Parameter of the address that carries the key, where no header does."""
    site_is_host: bool = False
    """Whether `site` names the service's own host instead of narrowing the search."""

    @property
    def url_variable(self) -> str:
        """Environment variable with another address, such as that of a proxy."""
        return f"{self.name.upper()}_BASE_URL"

    def key(self) -> str:
        """The key, empty where none is needed.

        Raises:
            RetrieverRejected: it is missing; the message names the variable.
        """
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            reason = f"the environment variable {self.key_variable} is not set"
            raise RetrieverRejected(
                f"web search with {self.name}: {reason}; export your key", status=401, reason=reason
            )
        return key

    def headers(self, key: str) -> dict[str, str]:
        """The header that carries the key."""
        return {self.key_header: self.key_prefix + key} if self.key_header else {}

    def address(self, base: str, call: WebCall, key: str) -> str:
        """The address of the request."""
        secret = {self.key_parameter: key} if self.key_parameter else {}
        query = urlencode({**call.parameters, **secret}, errors="replace")
        return f"{base}?{query}" if query else base


def _serper_call(query: WebQuery) -> WebCall:
    return WebCall("POST", {}, dump({"q": query.text_with_site, "num": query.count}))


def _serper_parse(answer: Mapping[str, object]) -> list[Passage]:
    # What found nothing may come without the list, but never without an echo of the question.
    missing: object = [] if "searchParameters" in answer else None
    return _pages(answer.get("organic", missing), "in 'organic'", "link", "snippet")


def _serpapi_call(query: WebQuery) -> WebCall:
    return WebCall("GET", {"engine": "google", "q": query.text_with_site, "num": str(query.count)})


def _serpapi_parse(answer: Mapping[str, object]) -> list[Passage]:
    found = answer.get("organic_results")
    if found is None and "any results" in str(answer.get("error", "")):
        return []
    if found is None and "error" in answer:
        raise WireError(f"the service says {show(answer['error'])}")
    return _pages(found, "in 'organic_results'", "link", "snippet")


def _tavily_call(query: WebQuery) -> WebCall:
    body: dict[str, object] = {"query": query.text, "max_results": query.count, "search_depth": "basic"}
    if query.site:
        body["include_domains"] = [query.site]
    return WebCall("POST", {}, dump(body))


def _tavily_parse(answer: Mapping[str, object]) -> list[Passage]:
    return _pages(answer.get("results"), "in 'results'", "url", "content")


def _wikipedia_call(query: WebQuery) -> WebCall:
    parameters = {
        "action": "query",
        "format": "json",
        "formatversion": "2",
        "generator": "search",
        "gsrsearch": query.text,
        "gsrlimit": str(query.count),
        "prop": "extracts|info",
        "inprop": "url",
        "exintro": "1",
        "explaintext": "1",
        "exlimit": "max",
    }
    return WebCall("GET", parameters)


def _wikipedia_parse(answer: Mapping[str, object]) -> list[Passage]:
    if "error" in answer:
        code = as_object(answer["error"]).get("code")
        if code in ("maxlag", "ratelimited", "readonly") or str(code).startswith("internal_api_error"):
            raise RetrieverUnavailable(f"the wiki is busy: {show(code)}")
        raise WireError(f"the wiki says {show(answer['error'])}")
    if "query" not in answer:  # nothing found
        return []
    pages = [as_object(row) for row in as_list(as_object(answer["query"]).get("pages"), "in 'pages'")]
    pages.sort(key=_wikipedia_rank)
    return _pages(pages, "of pages", "fullurl", "extract")


def _wikipedia_rank(page: Mapping[str, object]) -> int:
    rank = page.get("index")
    return rank if isinstance(rank, int) else sys.maxsize


def _pages(rows: object, what: str, url_key: str, text_key: str) -> list[Passage]:
    """Passages of a list of results, each address once; a result without address cannot be cited and is left out."""
    found: dict[str, Passage] = {}
    for row in map(as_object, as_list(rows, what)):
        url, title, text = (_text(row.get(key)) for key in (url_key, "title", text_key))
        if url:
            found.setdefault(url, Passage(url, title, text[:MAX_TEXT_CHARS]))
    return list(found.values())


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


WEB_ENGINES: Mapping[str, WebEngine] = MappingProxyType(
    {
        row.name: row
        for row in (
            WebEngine(
                name="serper",
                url="https://google.serper.dev/search",
                call=_serper_call,
                parse=_serper_parse,
                rate=Rate(50, 50),
                max_results=100,
                max_query_chars=2000,
                key_variable="SERPER_API_KEY",
                key_header="X-API-KEY",
            ),
            WebEngine(
                name="serpapi",
                url="https://serpapi.com/search.json",
                call=_serpapi_call,
                parse=_serpapi_parse,
                rate=Rate(5, 5),
                max_results=100,
                max_query_chars=2000,
                key_variable="SERPAPI_API_KEY",
                key_parameter="api_key",
            ),
            WebEngine(
                name="tavily",
                url="https://api.tavily.com/search",
                call=_tavily_call,
                parse=_tavily_parse,
                rate=Rate(15, 15),
                max_results=20,
                max_query_chars=400,
                key_variable="TAVILY_API_KEY",
                key_header="Authorization",
                key_prefix="Bearer ",
            ),
            WebEngine(
                name="wikipedia",
                url="https://en.wikipedia.org/w/api.php",
                call=_wikipedia_call,
                parse=_wikipedia_parse,
                rate=Rate(10, 10),
                max_results=20,
                max_query_chars=300,
                site_is_host=True,
            ),
        )
    }
)
