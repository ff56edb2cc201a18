"""Queries and the documents that real search found for them: the raw data of a simulated engine (ZeroSearch).

Pairs come from the trajectories of episodes that searched for real: a run's `trajectories` or `predictions.jsonl`
of an evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results.recorded import episode_files, recorded_system
from foundation.errors import InputError
from r1_searcher.episode.documents import passage_text
from r1_searcher.episode.filled_blocks import results_in, searches_by_block
from r1_searcher.episode.protocol import Protocol, Tool
from r1_searcher.episode.trajectory import SearchRecord, SpanKind, Trajectory
from r1_searcher.run.episode_log import read_episodes
from r1_searcher.run.episode_record import EpisodeRecord
from retriever.simulated.prompts import PASSAGE_IDS


@dataclass(frozen=True)
class SearchPair:
    """One search of an episode and the documents that it put into the context."""

    question: str
    answers: tuple[str, ...]
    query: str
    documents: tuple[str, ...]
    """As the policy saw them, without ranks; best first."""
    last: bool
    """Whether the episode answered after it: then a gold answer may be expected in it."""


def pairs_of(trajectory: Trajectory, protocol: Protocol) -> Iterator[SearchPair]:
    """The real searches of an episode that brought documents; failed, empty and simulated ones are left out.

    So are calls of tools that do not search, such as one that reads pages, and `mixed_blocks`.
    """
    row, blocks = trajectory.row, _found_by_block(trajectory, protocol)
    for place, found in enumerate(blocks, start=1):
        for search, documents in found or ():
            query = " ".join(search.query.split())
            if query and documents and not any(name.startswith(PASSAGE_IDS) for name in search.shown_ids):
                yield SearchPair(row.question, row.answers, query, documents, last=place == len(blocks))


def mixed_blocks(trajectory: Trajectory, protocol: Protocol) -> int:
    """Document blocks of which nobody can tell which search found what: an own agent's, after several searches."""
    return _found_by_block(trajectory, protocol).count(None)


_Found = list[tuple[SearchRecord, tuple[str, ...]]]


def _found_by_block(trajectory: Trajectory, protocol: Protocol) -> list[_Found | None]:
    """For each document block its searches with the documents of each; None where these cannot be told apart."""
    blocks = trajectory.of_kind(SpanKind.DOCUMENTS)
    read = _of_call if protocol.tools else _of_one_search
    pairs = zip(blocks, searches_by_block(trajectory), strict=True)
    return [read(protocol, block.text, searches) for block, searches in pairs]


def _of_one_search(protocol: Protocol, block: str, searches: Sequence[SearchRecord]) -> _Found | None:
    lines = (line.strip() for line in passage_text(protocol, block).splitlines())
    return [(searches[0], tuple(filter(None, lines)))] if len(searches) == 1 else None


def _of_call(protocol: Protocol, block: str, searches: Sequence[SearchRecord]) -> _Found | None:
    """The searches of a tool call, each with its own entry of the block's JSON."""
    results = results_in(block)
    if not searches or len(searches) != len(results):
        return None
    tools = {tool.name: tool for tool in protocol.tools if tool.retriever == "search"}
    found = [(search, result) for search, result in zip(searches, results, strict=True) if search.tool in tools]
    return [(search, _documents(tools[search.tool], result)) for search, result in found]


def _documents(tool: Tool, result: Mapping[str, Any]) -> tuple[str, ...]:
    """The passages of a result, each on one line: without rank and id, as `passage_text` has them."""
    keys = [key for key, name in tool.fields.items() if name not in ("rank", "id")]
    passages = [passage for passage in result.get(tool.found, ()) if isinstance(passage, dict)]
    lines = (" ".join(" ".join(str(passage.get(key, "")) for key in keys).split()) for passage in passages)
    return tuple(filter(None, lines))


def unique(pairs: Iterable[SearchPair]) -> list[SearchPair]:
    """Each (question, query, documents) once, in order of appearance; last if it was so in any episode."""
    found: dict[tuple[str, str, tuple[str, ...]], SearchPair] = {}
    for pair in pairs:
        key = (pair.question, pair.query, pair.documents)
        if key not in found or (pair.last and not found[key].last):
            found[key] = pair
    return list(found.values())


@dataclass(frozen=True)
class EpisodeFiles:
    """Files of episodes that were played with one protocol."""

    files: tuple[Path, ...]
    protocol: Protocol

    def read(self) -> Iterator[EpisodeRecord]:
        """Every episode. Raises `InputError` where a whole line is none."""
        for file in self.files:
            yield from read_episodes(file)


def find_episodes(source: Path) -> EpisodeFiles:
    """The episodes of a run's or an evaluation's folder.

    Raises:
        InputError: the folder is none of these, or does not say what its episodes were played with.
    """
    files = episode_files(source)
    system = recorded_system(source) if files else None
    if system is not None:
        return EpisodeFiles(tuple(files), system.protocol)
    raise InputError(
        f"{source} holds no episodes; expected a run's folder (run.json, trajectories/) or an evaluation's "
        "(evaluation.json, predictions.jsonl)"
    )
