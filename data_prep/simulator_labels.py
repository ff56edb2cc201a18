"""Whether the documents of a search answer its query: the judge of ZeroSearch's simulator data."""

from __future__ import annotations

from data_prep.simulator_pairs import SearchPair
from data_prep.simulator_rows import holds
from retriever.words import words


def by_rule(pair: SearchPair) -> bool:
    """Useful, if one document holds all words of the query; after an episode's last search, or a gold answer.

    A judge for worlds whose queries are made of the words of their facts.
    """
    wanted = [tuple(words(pair.query)), *(tuple(words(answer)) for answer in pair.answers if pair.last)]
    return any(holds(document, part) for document in pair.documents for part in wanted)
