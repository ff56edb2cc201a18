"""Files as nobody should write them and somebody has: any bytes, encoding and packing, lines with any JSON in them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]

texts = st.text(st.characters() | st.sampled_from("\ud83d\ufeff\0\u2028 ,\t\"'[]{}"), max_size=8)
numbers = st.integers() | st.integers(0, 9).map(lambda n: 10 ** (400 * n)) | st.floats()
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
"""Anything that JSON can say, and numbers that no float can hold."""


def encoded(written: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Texts as bytes: in an encoding, perhaps compressed; now and then bytes that are no text at all."""
    as_bytes = st.builds(lambda text, name: text.encode(name, "surrogatepass"), written, st.sampled_from(ENCODINGS))
    return (as_bytes | st.binary(max_size=60)).flatmap(lambda raw: st.sampled_from([raw, gzip.compress(raw, mtime=0)]))


def json_lines(*rows: Mapping[str, object]) -> st.SearchStrategy[str]:
    """Lines of objects that are like one of these, with some values changed and some keys missing; and other lines."""

    def like(row: Mapping[str, object]) -> st.SearchStrategy[str]:
        fields = {key: st.just(value) | st.just(value) | values for key, value in row.items()}
        return st.fixed_dictionaries({}, optional=fields).map(json.dumps)

    line = st.one_of(*map(like, rows), st.just(json.dumps(rows[0])), values.map(json.dumps), texts)
    return st.lists(line, max_size=4).flatmap(lambda lines: st.sampled_from(_joined(lines)))


CORPUS_ROWS = (
    {"id": "1", "title": "T", "text": "x"},
    {"_id": 2, "title": "T", "text": "x", "metadata": {}},
    {"id": "3", "contents": '"T"\nx'},
    {"wikipedia_id": "4", "wikipedia_title": "T", "text": ["T\n", "x y\n", "Section::::S"]},
    {"id": "5", "title": "T", "text": [["x."], [" y."]]},
)
"""A line of each kind of corpus that is JSON."""


def corpora() -> st.SearchStrategy[bytes]:
    """Files like corpora: JSON lines of one kind or several; tables of some columns, with names or without."""
    cells = st.text(st.sampled_from("ab \" é\ud83d\ufeff\0\r'{"), max_size=6)
    written = st.sampled_from(["T   x", "Title: T Text: x", '"Title: T Text: an ""x"""', '"a ""T"""', "x", " "])
    rows = st.lists(st.lists(written | cells, min_size=1, max_size=4).map(lambda row: ["1", *row]), max_size=4)
    names = st.sampled_from([[], [["id", "text", "title"]], [["pid", "title", "passage", "url"]], [["a", "b"]]])
    tables = st.builds(lambda above, below: [*above, *below], names, rows).map(
        lambda lines: _joined(map("\t".join, lines))
    )
    kinds = st.one_of(*(json_lines(row) for row in CORPUS_ROWS), json_lines(*CORPUS_ROWS))
    return encoded(kinds | tables.flatmap(st.sampled_from))


def _joined(lines: Iterable[str]) -> list[str]:
    text = "\n".join(line.replace("\n", " ") for line in lines)
    return [text, text + "\n", text.replace("\n", "\r\n") + "\r\n"]


def lines_in(content: bytes) -> int | None:
    """Lines that hold something, of content as `encoded` makes it; None where the encoding cannot be told for sure."""
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    for mark, encoding in ((b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            content = content.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
            break
    else:
        if b"\0" in content:
            return None  # UTF-16 without a mark; the encodings have tests of their own
    return len([line for line in content.split(b"\n") if line.removeprefix(b"\xef\xbb\xbf").strip()])
