"""Recall@k of a saved index: against exact search, and of gold titles where the questions name them.

    python -m retriever.check --index DIR --k 5
    python -m retriever.check --index DIR --queries questions.jsonl --k 5 --json report.json

Questions are JSONL with `question` (or `query`) and, where known, `titles` (or `gold_titles`), as `data_prep.questions`
writes it. Without a file, titles of random passages are the queries, but of an index in Milvus. Exact search needs the
vectors that the build kept (DIR/embeddings, or `--embeddings`).
Exit statuses: 0 done; 2 bad input, 3 a Milvus that does not answer, with one line on stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.cli import OneLineParser, expected, positive, run_command
from foundation.files import write_json
from foundation.json_lines import read_strict
from foundation.text_table import format_table
from retriever.build.embeddings import EMBEDDINGS_NAME, Embeddings
from retriever.build.steps import EMBEDDINGS_FOLDER
from retriever.index.backends import Opening, load_index
from retriever.index.dense import DenseIndex
from retriever.index.encoder import add_encoder_options
from retriever.index.hybrid import PARTS, HybridIndex
from retriever.index.store import PassageStore
from retriever.interface import Index, RankedIndex
from retriever.passage import Hits, Passage

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and what should be found."""

    text: str
    gold_titles: frozenset[str] = frozenset()
    """Titles of the passages that answer it; empty where unknown."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The measured figures."""

    index: str
    passages: int
    k: int
    queries: int
    recall_of_exact: float | None
    """Share of the k best by exact search that the index's k best hold; None for an index without vectors."""
    recall_of_gold: float | None
    """Mean share of a question's gold titles among the k best; None where no question names any."""
    milliseconds_per_query: float
    """Of searching in batches, encoding included."""


def read_queries(path: Path) -> list[Query]:
    """Questions of a JSONL file.

    Raises:
        ValueError: naming file and line; also for a file without questions.
    """
    found = list(read_strict(path, _query, error=ValueError))
    if not found:
        raise ValueError(f"{path} holds no questions")
    return found


def _query(row: Mapping[str, Any]) -> Query:
    text = row.get("question", row.get("query"))
    titles = row["titles"] if "titles" in row else row.get("gold_titles", ())
    if not isinstance(text, str):
        raise TypeError(f"expected a text under question (or query), found {text!r:.40}")
    if isinstance(titles, str):
        raise TypeError(f"its titles must be a list, found {titles!r:.40}")
    return Query(text, frozenset(titles))


def titles_as_queries(passages: Sequence[Passage], size: int, seed: int = 0) -> list[Query]:
    """Titles of random passages, or the first words of those without one."""
    count = len(passages)
    rows = np.random.default_rng(seed).choice(count, min(size, count), replace=False)
    picked = [passages[int(row)] for row in rows]
    return [Query(passage.title or " ".join(passage.text.split()[:12])) for passage in picked]


def exact_rows(embeddings: Embeddings, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k vectors with the largest inner product, shape [queries, k]; one shard in memory at a time."""
    scores = np.zeros((len(queries), 0), np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for number, matrix in enumerate(embeddings.matrices()):
        start, stop = embeddings.bounds(number)
        scores = np.hstack([scores, queries @ matrix.T])
        rows = np.hstack([rows, np.broadcast_to(np.arange(start, stop), (len(queries), stop - start))])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


def recall_of_exact(dense: DenseIndex, embeddings: Embeddings, questions: Sequence[Query], k: int) -> float:
    """Share of the exact k best that the index finds among its k best, over all questions."""
    texts = [question.text for question in questions]
    expected = exact_rows(embeddings, dense.encoder.encode_queries(texts), k)
    found = [ranking for batch in _batches(texts) for ranking in dense.rank(batch, k)]
    shared = [np.isin(right, ranking.rows).mean() for right, ranking in zip(expected, found, strict=True)]
    return float(np.mean(shared))


def recall_of_gold(results: Sequence[Hits], questions: Sequence[Query]) -> float | None:
    """Mean share of gold titles found, over the questions that name any."""
    shares = [
        len(question.gold_titles & {hit.passage.title for hit in hits}) / len(question.gold_titles)
        for question, hits in zip(questions, results, strict=True)
        if question.gold_titles
    ]
    return sum(shares) / len(shares) if shares else None


def check(index: Index, questions: Sequence[Query], k: int, embeddings: Embeddings | None) -> IndexReport:
    """Search all questions and compare."""
    dense = index.dense if isinstance(index, HybridIndex) else index
    exact = None
    if isinstance(dense, DenseIndex) and embeddings is not None:
        exact = recall_of_exact(dense, embeddings, questions, k)
    started = time.perf_counter()
    results = [hits for batch in _batches([q.text for q in questions]) for hits in index.search(batch, k)]
    spent = 1000 * (time.perf_counter() - started) / len(questions)
    return IndexReport(index.name, len(index), k, len(questions), exact, recall_of_gold(results, questions), spent)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    return run_command("retriever.check", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with expected(ValueError, OSError, ImportError):
        report = _report(options)
        if options.json is not None:
            write_json(options.json, asdict(report))
    print(_table(report))


def _report(options: argparse.Namespace) -> IndexReport:
    index = load_index(options.index, Opening.of(options))
    passages = _passages(options, index)
    if options.verify_corpus and isinstance(passages, PassageStore):
        passages.verify()
    questions = read_queries(options.queries) if options.queries else titles_as_queries(passages, options.sample)
    return check(index, questions, options.k, _embeddings(options, index))


def _passages(options: argparse.Namespace, index: Index) -> Sequence[Passage]:
    """The index's corpus. Raises ValueError where a flag needs one, and the index has none in this process."""
    if isinstance(index, RankedIndex):
        return index.passages
    if options.queries is None or options.verify_corpus:
        raise ValueError(
            f"the passages of {options.index} lie in a service of their own ({index.name}): their titles cannot be "
            "asked and their store not verified; name questions with --queries FILE, and leave out --verify-corpus"
        )
    return ()


def _embeddings(options: argparse.Namespace, index: Index) -> Embeddings | None:
    if not isinstance(index, DenseIndex | HybridIndex):
        return None
    own = options.index / (PARTS[1] if isinstance(index, HybridIndex) else "") / EMBEDDINGS_FOLDER
    if options.embeddings is None and not (own / EMBEDDINGS_NAME).is_file():
        print(f"no exact search: the vectors are not at {own}; name their folder with --embeddings", file=sys.stderr)
        return None
    embeddings = Embeddings.open(options.embeddings or own)
    if embeddings.count != len(index):
        raise ValueError(f"{embeddings.folder} holds {embeddings.count} vectors, the index has {len(index)}")
    return embeddings


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="retriever.check", description="Recall of a saved index.", allow_abbrev=False)
    add = parser.add_argument
    add("--index", type=Path, required=True, metavar="DIR")
    add("--queries", type=Path, metavar="FILE", help="JSONL with question (or query) and titles (or gold_titles)")
    add("--k", type=positive, default=5, help="passages per query (%(default)s)")
    add("--sample", type=positive, default=200, help="without --queries: number of titles to search for (%(default)s)")
    add_encoder_options(add)
    add("--embeddings", type=Path, metavar="DIR", help="the vectors, if not in the index's folder")
    add("--corpus", type=Path, dest="store", metavar="DIR", help="the passage store, if it has moved")
    add("--milvus-uri", metavar="URL", help="the index's Milvus server, which is sent the token in MILVUS_TOKEN")
    add("--nprobe", type=positive, help="IVF: instead of the index's own")
    add("--ef-search", type=positive, help="HNSW: instead of the index's own")
    add("--verify-corpus", action="store_true", help="read the whole passage store and compare its hashes first")
    add("--json", type=Path, metavar="FILE", help="write the report there, too")
    return parser


def _table(report: IndexReport) -> str:
    found = {name.replace("_", " "): value for name, value in asdict(report).items() if value is not None}
    rows = [(name, f"{value:.4f}" if isinstance(value, float) else str(value)) for name, value in found.items()]
    return format_table((), rows)


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]


if __name__ == "__main__":
    sys.exit(main())
