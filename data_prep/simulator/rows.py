"""Judged pairs to rows for `openrlhf.cli.train_sft`: the simulator's own prompts, useful and noisy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from data_prep.simulator.pairs import SearchPair
from retriever.index.words import words
from retriever.simulated.prompts import SimulatedSearch, simulator_messages, write_documents

MESSAGES = "messages"
"""Key of a row's conversation: `--data.input_key`, with `--data.apply_chat_template`."""

Row = Mapping[str, Sequence[Mapping[str, str]]]


def sft_rows(pairs: Sequence[SearchPair], verdicts: Sequence[bool | None], mode: str, random: Random) -> list[Row]:
    """One useful row for each pair that answers its query, and for every judged pair a noisy one, shuffled.

    A pair that does not answer is its own noisy target; to a query that was answered, noise is what was found for a
    query about something else. Unjudged pairs are left out.

    Args:
        verdicts: True for useful, None for unjudged; one per pair.
        mode: of `retriever.simulated.prompts.simulator_prompt`.
    """
    rows: list[Row] = []
    for pair, useful in zip(pairs, verdicts, strict=True):
        if useful is None:
            continue
        if useful:
            rows.append(_row(pair, pair.documents, mode, useful=True))
        documents = _elsewhere(pair, pairs, random) if useful else pair.documents
        if documents is not None:
            rows.append(_row(pair, documents, mode, useful=False))
    random.shuffle(rows)
    return rows


def _row(pair: SearchPair, documents: Sequence[str], mode: str, *, useful: bool) -> Row:
    search = SimulatedSearch(pair.query, pair.question, pair.answers, useful)
    answer = {"role": "assistant", "content": write_documents(documents)}
    return {MESSAGES: [*simulator_messages(search, mode), answer]}


_TRIES = 20
"""How many pairs are drawn to find one about something else."""


def _elsewhere(pair: SearchPair, pairs: Sequence[SearchPair], random: Random) -> tuple[str, ...] | None:
    """Documents, as many as the pair has, none of which holds a gold answer or all words of the query."""
    wanted = [tuple(words(pair.query)), *(tuple(words(answer)) for answer in pair.answers)]
    found: list[str] = []
    for _ in range(_TRIES * len(pair.documents)):
        document = random.choice(random.choice(pairs).documents)
        if document not in found and not any(holds(document, part) for part in wanted):
            found.append(document)
        if len(found) == len(pair.documents):
            return tuple(found)
    return None


def holds(document: str, wanted: Sequence[str]) -> bool:
    """Whether every one of these words stands in the document; no words are held by nothing."""
    return bool(wanted) and set(wanted) <= set(words(document))
