"""Simulated search: a language model plays the search engine, useful or noisy as a curriculum says (ZeroSearch)."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from foundation.chat.endpoint import OpenAIEndpoint
from foundation.errors import BadResponse
from foundation.retry import Attempts, RetryPolicy
from retriever.errors import RetrieverBadResponse, search_failures
from retriever.interface import READY, Health
from retriever.passage import Hit, Hits, Passage, SearchRequest
from retriever.row_facts import RowFacts
from retriever.simulated.prompts import (
    MODES,
    PASSAGE_IDS,
    SimulatedSearch,
    kind_name,
    parse_documents,
    simulator_messages,
    tells_answer,
)
from retriever.wire.bodies import show

TEMPERATURE = 0.8
MAX_TOKENS = 600
_DRAWS = 1 << 53
"""Draws are multiples of 2^-53, as `random.random` gives them."""


def curriculum(progress: float, start: float, end: float, base: float = 4.0) -> float:
    """The share of noisy searches: start + (base^progress - 1) / (base - 1) * (end - start).

    Args:
        progress: training steps done / all steps; beyond 1 the share stays at `end`.
        start, end: shares before the first and after the last step.
        base: how late the change comes: above 1; towards 1 it becomes linear.
    """
    done = min(max(progress, 0.0), 1.0)
    return start + (base**done - 1) / (base - 1) * (end - start)


@dataclass(frozen=True, slots=True)
class Noise:
    """The curriculum's shares of noisy searches."""

    start: float = 0.0
    end: float = 0.5
    base: float = 4.0

    def __post_init__(self) -> None:
        """Raise ValueError for shares that are none, or a base that gives no curve."""
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1 and self.base > 1):
            raise ValueError(f"expected shares from 0 to 1 and a base above 1, found {self}")

    def share(self, progress: float) -> float:
        """Probability that a search at this point of the training is noisy."""
        return curriculum(progress, self.start, self.end, self.base)


class SimulatedRetriever:
    """Documents written by a model. Passages are named `simulated/useful/1` or `simulated/noisy/1`.

    Whether a search is noisy is drawn per search, not per document. The draw, and the seed that the model samples
    with, depend only on the seed, the row, the query and how often this row has sent this query before, so an episode
    played again (by a server that heeds seeds) meets the same engine.
    """

    def __init__(
        self,
        endpoint: OpenAIEndpoint,
        *,
        mode: str = "sft",
        noise: Noise | None = None,
        seed: int = 0,
        retry: RetryPolicy | None = None,
        temperature: float = TEMPERATURE,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            endpoint: the model; its own retries are not used.
            mode: `sft` for a fine-tuned simulator, `short` for one that was tuned on the short prompt, `prompt` for any
                instruction-tuned model.
            noise: the curriculum.
            seed: of the draws.
            retry: attempts, waits and deadline of one search. An answer without documents counts as a failed attempt,
                and so does, but for the last, a noisy one that holds the answer: noise that gives it away would pay a
                policy for asking about nothing.
            temperature, max_tokens: of the sampling; the defaults are ZeroSearch's.

        Raises:
            ValueError: an unknown mode.
        """
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r} of the simulated search; known: {', '.join(MODES)}")
        self._endpoint, self._mode, self._noise, self._seed = endpoint, mode, noise or Noise(), seed
        self._temperature, self._max_tokens = temperature, max_tokens
        policy = retry or RetryPolicy()
        self._attempts, self._most_attempts = Attempts(policy), policy.attempts
        self._asked: Counter[int] = Counter()
        self.stats = self._attempts.stats

    async def search(self, request: SearchRequest) -> Hits:
        """At most five documents for the query, in the order in which the model wrote them.

        Raises:
            RetrieverBadResponse: no documents in any answer.
            RetrieverError: the endpoint is down, slow or refuses.
            ValueError: the request carries no row: only episodes can be simulated for.
        """
        facts = RowFacts.of(request.context)
        if facts is None:
            raise ValueError("simulated search needs the episode's row in SearchRequest.context['row']; none was given")
        query = " ".join(request.query.split())
        if not query:
            return ()
        draw = self._draw(facts, query)
        noisy = draw < self._noise.share(facts.progress) * _DRAWS
        search = SimulatedSearch(query, facts.question, facts.answers, useful=not noisy)
        documents = await self._attempts.run(
            lambda failures, limit_s: self._ask(search, draw, failures, limit_s),
            again=lambda error: error.transient or isinstance(error, BadResponse),
        )
        kind = kind_name(not noisy)
        passages = [Passage(f"{PASSAGE_IDS}{kind}/{rank}", "", text) for rank, text in enumerate(documents, start=1)]
        return tuple(Hit(passage, 1 / rank) for rank, passage in enumerate(passages[: request.top_k], start=1))

    async def health(self, timeout: float = 10.0) -> Health:
        """Whether the endpoint answers. Raises RetrieverError."""
        with search_failures():
            await self._endpoint.check(timeout)
        return Health(READY, f"simulated:{self._mode}", 0)

    async def close(self) -> None:
        """Release the running event loop's connections."""
        await self._endpoint.close()

    def _draw(self, facts: RowFacts, query: str) -> int:
        """A number below `_DRAWS`, and one more search of this kind on the count."""
        same = int.from_bytes(_digest(facts.id, query)[:8], "big")
        number = self._asked[same]
        self._asked[same] += 1
        return int.from_bytes(_digest(str(self._seed), facts.id, query, str(number))[:8], "big") % _DRAWS

    async def _ask(self, search: SimulatedSearch, draw: int, failures: int, limit_s: float) -> list[str]:
        messages = simulator_messages(search, self._mode)
        seed = (draw + failures) % (1 << 31)
        sampling = {"temperature": self._temperature, "max_tokens": self._max_tokens, "seed": seed}
        with search_failures():
            answer = (await self._endpoint.chat_once(messages, limit_s, **sampling)).text
        documents = parse_documents(answer)
        if not documents:
            raise RetrieverBadResponse(
                f"{self._endpoint.config.shown}: expected lines 'Doc 1: …' of a simulated search, found {show(answer)}"
            )
        if search.useful:
            return documents
        innocent = [document for document in documents if not tells_answer(document, search)]
        if innocent == documents or (innocent and failures + 1 == self._most_attempts):
            return innocent
        raise RetrieverBadResponse(f"{self._endpoint.config.shown}: a noisy document holds the answer")


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
