"""Whether the documents of a search answer its query: the judge of ZeroSearch's simulator data."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.simulator.pairs import SearchPair
from data_prep.simulator.rows import holds
from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from r1_searcher.reward.judge import Case, Judge, VerdictCache, ask_first, explain_unjudged
from retriever.index.words import words

logger = logging.getLogger(__name__)

PROMPT = """You are shown a search query and what a search engine returned for it.
Decide whether these documents alone answer the query: somebody who reads them, and knows nothing else, can say what \
was looked for. Documents on the topic that leave it open do not answer it.

Query: {query}
Documents:
{documents}

Reply with one word: True if they answer the query, False if they do not."""


def by_rule(pair: SearchPair) -> bool:
    """Useful, if one document holds all words of the query; after an episode's last search, or a gold answer.

    A judge for worlds whose queries are made of the words of their facts.
    """
    wanted = [tuple(words(pair.query)), *(tuple(words(answer)) for answer in pair.answers if pair.last)]
    return any(holds(document, part) for document in pair.documents for part in wanted)


@dataclass(frozen=True)
class DocumentCase(Case):
    """A query as the question and its documents as the answer to check; no references are told."""

    @classmethod
    def of(cls, pair: SearchPair) -> DocumentCase:
        """The case of a pair."""
        return cls(pair.query, (), "\n".join(pair.documents))

    @property
    def message(self) -> str:
        """The instruction of this case."""
        return PROMPT.format(query=self.question, documents=self.found)


def by_model(pairs: Sequence[SearchPair], endpoint: EndpointConfig, cache: Path) -> list[bool | None]:
    """Verdicts of a language model, each asked once and kept in `cache`; None where it gave none.

    Raises:
        InputError: nobody answers at the endpoint, it refuses, or the cache cannot be written.
        OutsideFailure: there is no verdict on any pair.
    """

    async def all_verdicts() -> list[bool | None]:
        from tqdm.asyncio import tqdm

        model, kept = OpenAIEndpoint(endpoint), VerdictCache(cache, keep_unjudged=False)
        try:
            await model.check_listening()
            judge = Judge(model, endpoint.model, kept)
            cases = [DocumentCase.of(pair) for pair in pairs]
            await ask_first(judge, cases)
            verdicts = await tqdm.gather(*map(judge.judge, cases), desc="judging", unit="pair")
            if said := explain_unjudged(verdicts):
                logger.warning(said)
            return [verdict.correct for verdict in verdicts]
        finally:
            kept.close()
            await model.close()

    return asyncio.run(all_verdicts())
