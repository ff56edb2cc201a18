"""A policy whose turns are written beforehand: for baselines, for checks, and for episodes that teach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from r1_searcher.episode.policy import Completion, Finish, Policy
from r1_searcher.episode.tokenization import Tokenizer


class ScriptedPolicy:
    """Plays given turns, one after another, and then what another policy samples; good for one episode."""

    def __init__(self, tokenizer: Tokenizer, turns: Iterable[str], then: Policy | None = None) -> None:
        """Without `then`, a turn beyond the last one is empty."""
        self._tokenizer = tokenizer
        self._turns = iter(turns)
        self._then = then

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """The next turn, ended by its stop string or by EOS; whole, whatever its length (the episode's limits hold)."""
        text = next(self._turns, None)
        if text is None and self._then is not None:
            return await self._then.generate(ids, stops=stops, max_tokens=max_tokens)
        written = self._tokenizer.encode(text or "")
        if written and written[-1] in self._tokenizer.eos_ids:
            return Completion(tuple(written), Finish.EOS)
        if text and text.endswith(tuple(stops)):
            return Completion(tuple(written), Finish.STOP)
        return Completion((*written, min(self._tokenizer.eos_ids)), Finish.EOS)
