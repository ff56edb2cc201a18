"""How a foreign search tool is asked, and where the passages are in what it answers.

MCP says how a tool is called, not what a search tool calls its arguments or what its results look like. A `Shape` is
one row of names: `STANDARD` holds those that are in use, and a source names those of a tool that says it otherwise
(`?query=q&top_k=n&results=data.items&text=snippet`). The schema that a server gives of its tool decides the arguments,
the answer itself where the results are.

An answer is read in this order: structured content; texts that are JSON; texts of labelled lines (`Title: …`,
`URL: …`); any other text, which is one passage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foundation.files import parse_json
from retriever.passage import Hit, Hits, Passage
from retriever.wire.answers import unscored
from retriever.wire.bodies import WireError, as_score, show

_DEEPEST = 5
"""Lists and objects around the results, at most."""

Names = tuple[str, ...]
"""Names that are tried one after the other. Of results they are paths: `web.results`, `items.0.rows`."""


class ShapeError(ValueError):
    """A tool that cannot be asked, or an answer that cannot be read; one line that says which name would help."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The names of a tool's arguments, and of the parts of its answer."""

    query: Names
    """The argument that takes the query, or a list of queries."""
    count: Names
    """The argument that takes the number of results; a tool without it is cut to what was asked for."""
    results: Names
    """The list of results in an answer that is an object."""
    id: Names
    title: Names
    text: Names
    """The parts of a result; a text may be a list of pieces."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, the same for every search."""
    told: bool = False
    """Whether `results` is the user's: then nothing else is a list of results."""

    def with_names(self, fixed: Mapping[str, Any] | None = None, **names: str) -> Shape:
        """This row with names of the user's in place of its own."""
        return replace(
            self,
            fixed=dict(fixed or self.fixed),
            told=self.told or "results" in names,
            **{part: (name,) for part, name in names.items()},
        )


STANDARD = Shape(
    query=(
        *("query", "q", "search_query", "search_term", "searchTerm", "queries", "question", "text", "input"),
        "keywords",
    ),
    count=(
        *("top_k", "topk", "topK", "k", "n", "limit", "count", "num_results", "numResults", "max_results"),
        *("maxResults", "top_n", "num", "size", "page_size", "pageSize", "per_page"),
    ),
    results=(
        *("results", "result", "documents", "docs", "hits", "passages", "items", "web.results", "organic"),
        *("organic_results", "search_results", "searchResults", "data.results", "data", "pages", "matches", "value"),
    ),
    id=("id", "_id", "doc_id", "docid", "document.id", "url", "link", "href", "uri", "source", "pageid"),
    title=("title", "name", "document.title", "metadata.title", "heading"),
    text=(
        *("text", "content", "contents", "passage", "snippet", "description", "summary", "extract", "body", "abstract"),
        *("page_content", "pageContent", "raw_content", "highlights", "snippets", "chunk"),
        *("document.text", "document.contents", "document.content", "document"),
    ),
)


@dataclass(frozen=True, slots=True)
class Call:
    """How one tool is asked."""

    query: str
    as_list: bool
    """Whether it takes a list of queries."""
    count: str
    """Empty where it takes no number of results."""
    most: int | None
    """Its schema's largest number of results."""
    fixed: Mapping[str, Any]

    def arguments(self, query: str, top_k: int) -> dict[str, Any]:
        """The arguments of one search."""
        wanted = top_k if self.most is None else min(top_k, self.most)
        asked = {self.query: [query] if self.as_list else query}
        return {**self.fixed, **asked, **({self.count: wanted} if self.count else {})}


def call_of(schema: Mapping[str, Any], shape: Shape) -> Call:
    """How a tool with this JSON schema of its arguments is asked.

    Raises:
        ShapeError: no argument can be told to be the query.
    """
    declared = schema.get("properties")
    known: Mapping[str, Any] = declared if isinstance(declared, Mapping) else {}
    stated = schema.get("required")
    required: list[Any] = stated if isinstance(stated, list) else []
    names = [name for name in shape.query if name in known]
    if len(shape.query) == 1:
        names = list(shape.query)  # the user's: not every server describes its tool
    elif not names:
        names = [name for name in required if _takes_text(known, name)][:1]
    if not names:
        raise ShapeError(f"which of its arguments takes the query? It has {_listed(known)}; say ?query=NAME")
    counts = [name for name in shape.count if name in known or len(shape.count) == 1]
    count = next((name for name in counts if name != names[0]), "")
    described = known.get(count)
    most = described.get("maximum") if isinstance(described, Mapping) else None
    limit = int(most) if isinstance(most, int | float) and not isinstance(most, bool) and 1 <= most < 1e9 else None
    missing = [name for name in required if name not in (names[0], count, *shape.fixed)]
    if missing:
        raise ShapeError(f'it also requires {_listed(missing)}; say ?arguments={{"{missing[0]}": …}}')
    return Call(names[0], _type_of(known, names[0]) == "array", count, limit, shape.fixed)


def read_hits(structured: object, texts: Sequence[str], linked: Sequence[Passage], shape: Shape, top_k: int) -> Hits:
    """The hits of an answer, best first as the server gave them.

    Args:
        structured: the structured content; None where there is none.
        texts: of the text contents, in their order.
        linked: passages that came as resources.
        shape: where to look.
        top_k: most hits.

    Raises:
        ShapeError: no results can be found in it.
    """
    found_rows = _rows_of_answer(structured, texts, linked, shape)
    rows = [row for row in found_rows if not isinstance(row, str) or row.strip()]  # a blank text is no passage
    found = [_passage(row, shape) for row in rows]
    scores = _scores(rows)
    hits = [unscored(passage, rank) for rank, passage in enumerate(found, 1)]
    if scores is not None:
        hits = [Hit(hit.passage, score) for hit, score in zip(hits, scores, strict=True)]
    return tuple(hits[:top_k])


def _rows_of_answer(
    structured: object, texts: Sequence[str], linked: Sequence[Passage], shape: Shape
) -> Iterator[object]:
    if shape.told:
        # A server that wraps a text of JSON as its structured content sends the same text beside it.
        yield from _rows_told([structured, *map(_json, texts)], shape.results[0])
    elif structured is not None:
        yield from _rows(structured, shape)
    else:
        for text in texts:
            yield from _rows_of_text(text, shape)
        yield from linked


def _rows_told(values: Sequence[object], path: str) -> Iterator[object]:
    """The results at the user's path, in the first value that has something there."""
    found = next((inside for value in values if (inside := _at(value, path)) is not None), None)
    if not isinstance(found, list):
        seen = next((value for value in values if value is not None), None)
        has = f"an answer with {_listed(seen)}" if isinstance(seen, dict) else show(seen)
        raise ShapeError(f"expected a list of results at {path}, found {has if found is None else show(found)}")
    yield from found


def _rows(value: object, shape: Shape, depth: int = 0) -> Iterator[object]:
    """The results in a JSON value: objects and texts."""
    if depth > _DEEPEST:
        raise ShapeError("results nested too deeply; say ?results=PATH")
    if isinstance(value, str):
        yield from _rows_of_text(value, shape, depth)
    elif isinstance(value, list):
        # A tool that takes several queries answers with a list for each; one was asked.
        yield from (row for each in value for row in (each if isinstance(each, list) else [each]))
    elif isinstance(value, dict):
        yield from _rows_of_object(value, shape, depth)
    else:
        raise ShapeError(f"expected results, found {show(value)}; say ?results=PATH")


def _rows_of_object(value: Mapping[str, object], shape: Shape, depth: int) -> Iterator[object]:
    inside = [found for path in shape.results if isinstance(found := _at(value, path), list | dict | str)]
    lists = [found for found in inside if isinstance(found, list)]
    if lists:
        yield from _rows(lists[0], shape, depth + 1)
    elif any(_first(value, names) is not None for names in (shape.text, shape.title)):
        yield value
    elif inside:
        yield from _rows(inside[0], shape, depth + 1)
    else:
        raise ShapeError(f"no results under any known name in an answer with {_listed(value)}; say ?results=PATH")


def _rows_of_text(text: str, shape: Shape, depth: int = 0) -> Iterator[object]:
    value = _json(text)
    if value is not None:
        yield from _rows(value, shape, depth + 1)
    elif text.strip() and not _NOTHING.fullmatch(text):
        labelled = _labelled(text)
        yield from labelled if labelled else (text.strip(),)


def _passage(row: object, shape: Shape) -> Passage:
    if isinstance(row, Passage):
        return row
    if isinstance(row, str):
        return Passage("", "", row)
    if not isinstance(row, dict):
        raise ShapeError(f"expected a result (an object or a text), found {show(row)}")
    title, text = (_text(_first(row, names)) for names in (shape.title, shape.text))
    if not title and not text:
        raise ShapeError(f"a result without a title and a text has {_listed(row)}; say ?text=NAME")
    return Passage(_text(_first(row, shape.id)), title, text)


def _first(row: Mapping[str, object], names: Names) -> object:
    """The first value that says something; 0 does, as an id."""
    return next((found for name in names if _text(found := _at(row, name))), None)


def _text(value: object) -> str:
    """A text, a number, or pieces of text as one; empty for everything else."""
    if isinstance(value, list):
        return "\n".join(filter(None, (piece for piece in value if isinstance(piece, str))))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _at(value: object, path: str) -> object:
    """What lies at a path of names and positions; None where there is nothing."""
    if isinstance(value, dict) and path in value:
        return value[path]
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) < 7:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _scores(rows: Sequence[object]) -> list[float] | None:
    """The server's scores, where every result has one and they fall from the first to the last: larger is better."""
    try:
        scores = [as_score(row.get("score")) if isinstance(row, dict) else as_score(None) for row in rows]
    except WireError:
        return None
    return scores if scores == sorted(scores, reverse=True) else None


_LABELS = {
    **dict.fromkeys(("url", "link", "id", "source"), "id"),
    **dict.fromkeys(("title", "name"), "title"),
    **dict.fromkeys(("text", "content", "description", "summary", "snippet", "abstract"), "text"),
}
_LABEL = re.compile(rf"\s*(?:\d+[.)]\s+)?\**({'|'.join(_LABELS)})\**\s*:\**\s*(.*)", re.IGNORECASE)
_NUMBERED = re.compile(r"\s*\d+[.)]\s+(\S.*)")
_NOTHING = re.compile(r"\s*no (?:search )?(?:results?|documents?|matches|pages?)\b[^\n]{0,200}\s*", re.IGNORECASE)


def _labelled(text: str) -> list[dict[str, object]]:
    """Results written as labelled lines, or as numbered titles with such lines below; empty for any other text."""
    found: list[dict[str, list[str]]] = []
    last = ""
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        label = _LABEL.match(line)
        numbered = None if label else _NUMBERED.match(line)
        if label is not None or (numbered is not None and _LABEL.match(below)):
            part = _LABELS[label[1].lower()] if label is not None else "title"
            if not found or part in found[-1]:
                found.append({})
            last = part
            found[-1][part] = [label[2] if label is not None else str(numbered and numbered[1])]
        elif found and last:
            found[-1][last].append(line)
    if not any({"title", "text"} <= each.keys() or {"title", "id"} <= each.keys() for each in found):
        return []
    whole: list[dict[str, object]] = [
        {part: "\n".join(pieces).strip().strip("-").strip() for part, pieces in each.items()} for each in found
    ]
    return [each for each in whole if each.get("title") or each.get("text")]


def _json(text: str) -> object:
    """The object or list that a text is; None for every other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return parse_json(text)
    except ValueError:
        return None


def _takes_text(known: Mapping[str, Any], name: object) -> bool:
    return isinstance(name, str) and _type_of(known, name) in ("string", None) and name in known


def _type_of(known: Mapping[str, Any], name: str) -> object:
    described = known.get(name)
    return described.get("type") if isinstance(described, Mapping) else None


def _listed(names: Iterable[object]) -> str:
    shown = [str(name)[:40] for name in list(names)[:12]]
    return ", ".join(shown) or "none"
