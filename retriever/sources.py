"""Where an episode's searches go, written as one string, for command lines and run configurations.

    http://a:8000,http://b:8000                      `retriever.server`, on one address or several
    http://a:8000/retrieve                           a server of Search-R1 (verl, SkyRL, slime), told by its path
    http://a:80?wire=research                        another system's server, told by a name of `retriever.wire.formats`
    web:serper?site=en.wikipedia.org                 a web search service: serper, serpapi, tavily, ddgs, wikipedia
    pages:                                           web pages, the query being an address
    read:web:serper|pages:?summary=http://host/v1    search the web, then read what was found
    simulate:http://host:6001/v1?noise=0:0.5         a language model that plays the search engine
    mcp:http://host/mcp?tool=search                  a search tool of an MCP server, at an address
    mcp:npx -y some-server?tool=web_search&env=KEY   the same of a command that speaks MCP
    record:FILE|SPEC                                 any of these, written to a file
    replay:FILE                                      what was written there
    corpus:FILE                                      BM25 over a corpus in this process; no service is needed

Options follow a question mark, as in an address (of `mcp:` the last one: its address may have a query of its own).
Those of each scheme are the keys of its table below. A command of `mcp:` is run, with the rights of the user: a spec
comes from a command line, never from a file of a stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from foundation.errors import InputError
from foundation.files import parse_json
from foundation.http import HttpLimits, printable
from foundation.retry import RetryPolicy
from retriever.interface import Source
from retriever.web.disk_cache import DAY_S, DEFAULT_DAYS, DiskCache, default_folder
from retriever.web.rate_limit import Rate

DEFAULT_RETRY = RetryPolicy(attempts=4, deadline=60.0)

Options = Mapping[str, Any]
Converters = Mapping[str, Callable[[str], Any]]
"""Option to what reads its value; it raises ValueError for a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a source waits for what it asks."""

    read_timeout: float
    """Seconds of one attempt."""
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of source."""

    shape: str
    """How its spec is written."""
    open: Callable[[str, Patience], Source]
    """From what follows the colon (of addresses: from all of it). Raises ValueError."""
    inner: Callable[[str], tuple[str, ...]] = lambda rest: ()
    """The specs that a spec of this scheme is made of. Raises ValueError."""
    follows_progress: bool = False
    """Whether its answers change with the progress of training, as a curriculum's do."""


def open_retriever(spec: str, *, read_timeout: float = 30.0, retry: RetryPolicy = DEFAULT_RETRY) -> Source:
    """The retriever that a spec names; nothing is sent yet.

    Args:
        spec: see the module's documentation.
        read_timeout: seconds of one attempt of one search.
        retry: attempts, waits and deadline of one search.

    Raises:
        ValueError: an unknown scheme, engine or option, or a value that cannot work; the message names what is known.
    """
    if read_timeout <= 0:
        raise ValueError(f"read_timeout must be above 0 seconds, found {read_timeout:g}")
    return _open(spec, Patience(read_timeout, retry))


def follows_progress(spec: str) -> bool:
    """Whether answers change with the progress of training: a simulated engine's do, recorded or not.

    Raises:
        ValueError: an unknown scheme, in the spec or inside it.
    """
    scheme, rest = _parse(spec)
    return scheme.follows_progress or any(map(follows_progress, scheme.inner(rest)))


def is_address(spec: str) -> bool:
    """Whether a spec is the address of search servers. Those are one's own: a search there costs nothing but time."""
    return spec.strip().startswith(("http://", "https://"))


def _open(spec: str, patience: Patience) -> Source:
    scheme, rest = _parse(spec)
    return scheme.open(rest, patience)


def _parse(spec: str) -> tuple[Scheme, str]:
    """The scheme, and what it opens: the text after the colon, or the whole of an address. Raises ValueError."""
    name, colon, rest = spec.strip().partition(":")
    if not colon or name not in SCHEMES:
        shapes = ", ".join(each.shape for each in SCHEMES.values())
        raise ValueError(f"a retriever is written as one of {shapes}; found the scheme {name!r}")
    return SCHEMES[name], spec.strip() if name.startswith("http") else rest


def _http(urls: str, patience: Patience) -> Source:
    from retriever.client.http_retriever import HttpRetriever

    return HttpRetriever(urls, limits=HttpLimits(read_timeout=patience.read_timeout), retry=patience.retry)


def _web(rest: str, patience: Patience) -> Source:
    from retriever.web.duckduckgo import DuckDuckGo
    from retriever.web.engines import WEB_ENGINES
    from retriever.web.search import JsonService, WebRetriever, WebService

    name, options = _split("web", rest, _WEB_OPTIONS)
    site = options.get("site", "")
    service: WebService
    if name == DuckDuckGo.name:
        if "url" in options:
            raise ValueError(f"web:{name} takes no url: its library knows where to go")
        service = DuckDuckGo(read_timeout=patience.read_timeout)
    elif name in WEB_ENGINES:
        engine = WEB_ENGINES[name]
        service = JsonService(engine, url=options.get("url", ""), site=site, read_timeout=patience.read_timeout)
    else:
        raise ValueError(f"unknown web search service {name!r}; known: {', '.join([*WEB_ENGINES, DuckDuckGo.name])}")
    return WebRetriever(service, site=site, rate=options.get("rate"), retry=patience.retry, cache=_cache(options))


def _pages(rest: str, patience: Patience) -> Source:
    from retriever.web.page_text import PageSummarizer
    from retriever.web.pages import PROBES, PageBudget, PageRetriever

    name, options = _split("pages", rest, _PAGES_OPTIONS)
    if name:
        raise ValueError(f"pages: takes options only, found {printable(name)!r}; the addresses come as queries")
    if "model" in options and "summary" not in options:
        raise ValueError("pages:?model= names the model that summarizes; give its address too, as summary=http://…")
    standard = PageBudget()
    total = options.get("chars", standard.total)
    summarizer = None
    if "summary" in options:
        summarizer = PageSummarizer(_endpoint(options["summary"], options, patience))
    return PageRetriever(
        read_timeout=patience.read_timeout,
        retry=patience.retry,
        rate=options.get("rate"),
        budget=PageBudget(min(options.get("part", standard.part), total), total),
        cache=_cache(options),
        summarizer=summarizer,
        allow_private=options.get("private", False),
        any_port=options.get("any_port", False),
        probes=(options["probe"],) if "probe" in options else PROBES,
    )


def _simulate(rest: str, patience: Patience) -> Source:
    from retriever.simulated.engine import Noise, SimulatedRetriever

    urls, options = _split("simulate", rest, _SIMULATE_OPTIONS)
    return SimulatedRetriever(
        _endpoint(urls, options, patience),
        mode=options.get("mode", "sft"),
        noise=Noise(*options.get("noise", ())),
        seed=options.get("seed", 0),
        retry=patience.retry,
    )


def _mcp(rest: str, patience: Patience) -> Source:
    from retriever.tools.shapes import STANDARD
    from retriever.tools.tool_retriever import CONCURRENCY, ToolRetriever
    from retriever.tools.transports import ToolServer

    place, _, written = rest.rpartition("?") if "?" in rest else (rest, "", "")
    _, options = _split("mcp", f"?{written}", _MCP_OPTIONS)
    return ToolRetriever(
        ToolServer(
            place.strip(),
            transport=options.get("transport", ""),
            key_variable=options.get("key_variable", ""),
            key_header=options.get("key_header", ""),
            passed_on=options.get("env", ()),
        ),
        tool=options.get("tool", ""),
        shape=STANDARD.with_names(
            options.get("arguments"),
            **{_MCP_PARTS[name]: value for name, value in options.items() if name in _MCP_PARTS},
        ),
        concurrency=options.get("concurrency", CONCURRENCY),
        read_timeout=patience.read_timeout,
        retry=patience.retry,
    )


def _record(rest: str, patience: Patience) -> Source:
    from retriever.record import RecordingRetriever

    path, inner = _recorded(rest)
    return RecordingRetriever(_open(inner, patience), path)


def _replay(path: str, patience: Patience) -> Source:
    from retriever.record import ReplayRetriever

    return ReplayRetriever(path)


def _corpus(path: str, patience: Patience) -> Source:
    from retriever.index.in_process import CorpusSource

    return CorpusSource(path)


def _read(rest: str, patience: Patience) -> Source:
    from retriever.web.pages import SearchAndRead

    search, pages = _searched_and_read(rest)
    return SearchAndRead(_open(search, patience), _open(pages, patience))


def _recorded(rest: str) -> tuple[str, str]:
    return _pair("record", rest, "FILE|SPEC")


def _searched_and_read(rest: str) -> tuple[str, str]:
    return _pair("read", rest, "SPEC|SPEC")


def _pair(scheme: str, rest: str, shape: str) -> tuple[str, str]:
    first, bar, second = (part.strip() for part in rest.partition("|"))
    if not first or not bar or not second:
        raise ValueError(f"expected {scheme}:{shape}, found {printable(f'{scheme}:{rest}')}")
    return first, second


def _endpoint(urls: str, options: Options, patience: Patience) -> OpenAIEndpoint:
    model, key_variable = options.get("model", ""), options.get("key_variable", "")
    try:
        return OpenAIEndpoint(EndpointConfig(urls, model, key_variable, patience.read_timeout, patience.retry))
    except InputError as error:
        raise ValueError(str(error)) from error


def _cache(options: Options) -> DiskCache | None:
    folder = options.get("cache") or default_folder()
    if folder == "none":
        return None
    return DiskCache(folder, max_age=options.get("cache_days", DEFAULT_DAYS) * DAY_S)


def _split(scheme: str, rest: str, known: Converters) -> tuple[str, Options]:
    """What stands before the question mark, and the options after it. Raises ValueError."""
    name, _, written = rest.partition("?")
    options: dict[str, Any] = {}
    for key, value in parse_qsl(written, keep_blank_values=True):
        if key not in known:
            raise ValueError(f"unknown option {key!r} of {scheme}:; known: {', '.join(known)}")
        try:
            options[key] = known[key](value)
        except ValueError as error:
            raise ValueError(f"{scheme}: option {key}={printable(value)!r} cannot be used: {error}") from error
    return name.strip(), options


def _flag(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("expected 0 or 1")
    return value == "1"


def _rate(value: str) -> Rate:
    per_second = float(value)
    return Rate(per_second, max(1, int(per_second)))


def _noise(value: str) -> tuple[float, ...]:
    numbers = tuple(map(float, value.split(":")))
    if not 2 <= len(numbers) <= 3:
        raise ValueError("expected START:END or START:END:BASE, such as 0:0.5")
    return numbers


def _transport(value: str) -> str:
    if value not in ("http", "sse"):
        raise ValueError("expected http or sse")
    return value


def _names(value: str) -> tuple[str, ...]:
    return tuple(name for name in value.split(",") if name)


def _object(value: str) -> dict[str, Any]:
    found = parse_json(value)
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


def _above_zero(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("expected a whole number of at least 1")
    return number


_CACHE_OPTIONS: Converters = {"cache": str, "cache_days": float}
_MODEL_OPTIONS: Converters = {"model": str, "key_variable": str}
_WEB_OPTIONS: Converters = {"site": str, "url": str, "rate": _rate, **_CACHE_OPTIONS}
_PAGES_OPTIONS: Converters = {
    "chars": int,
    "part": int,
    "rate": _rate,
    "private": _flag,
    "any_port": _flag,
    "probe": str,
    "summary": str,
    **_MODEL_OPTIONS,
    **_CACHE_OPTIONS,
}
_SIMULATE_OPTIONS: Converters = {"mode": str, "noise": _noise, "seed": int, **_MODEL_OPTIONS}
_MCP_PARTS = {"query": "query", "top_k": "count", **{name: name for name in ("results", "id", "title", "text")}}
"""Option to the part of a `retriever.tools.shapes.Shape` that it names."""
_MCP_OPTIONS: Converters = {
    "tool": str,
    **dict.fromkeys(_MCP_PARTS, str),
    "arguments": _object,
    "transport": _transport,
    "key_variable": str,
    "key_header": str,
    "env": _names,
    "concurrency": _above_zero,
}

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "http": Scheme("http://HOST:PORT[/PATH][?wire=NAME][,...]", _http),
        "https": Scheme("https://HOST[,...]", _http),
        "web": Scheme("web:SERVICE[?options]", _web),
        "pages": Scheme("pages:[?options]", _pages),
        "read": Scheme("read:SPEC|SPEC", _read, _searched_and_read),
        "simulate": Scheme("simulate:http://HOST:PORT/v1[?options]", _simulate, follows_progress=True),
        "mcp": Scheme("mcp:ADDRESS-OR-COMMAND[?options]", _mcp),
        "record": Scheme("record:FILE|SPEC", _record, lambda rest: _recorded(rest)[1:]),
        "replay": Scheme("replay:FILE", _replay),
        "corpus": Scheme("corpus:FILE", _corpus),
    }
)
