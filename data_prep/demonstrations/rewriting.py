"""An outline played again in another protocol, by the episode loop itself: its prompt, tags, limits and token ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from data_prep.demonstrations.outline import Outline, OutlinedSearch
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.policy import Completion
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.scripted_policy import ScriptedPolicy
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.episode.writing import answer_turn, search_turn
from retriever.passage import Hit, Hits, SearchRequest


@dataclass(frozen=True)
class Rewriter:
    """Writes outlines in a protocol, with a tokenizer, within limits."""

    protocol: Protocol
    limits: Limits
    tokenizer: Tokenizer

    def rewrite(self, outline: Outline) -> Trajectory | None:
        """The outline's episode; None where the protocol or the limits do not allow it as a whole.

        It is then longer than the limits, has a search of several queries without tools, a tag in what is said, or
        it breaks a rule of the protocol's format.
        """
        if any(len(step.queries) > self._most_queries for step in outline.steps) or self._holds_tag(outline):
            return None
        environment = Environment(self.protocol, self.limits, _Found(list(outline.steps)), self.tokenizer)
        episode = asyncio.run(run_episode(environment, outline.row, _Writer(self, outline)))
        good = self._is_whole(episode, outline) and self.protocol.is_well_formed(episode)
        return episode if good else None

    def _is_whole(self, episode: Trajectory, outline: Outline) -> bool:
        """Whether all of the outline was played, each turn and the episode within the budgets of a sampled one."""
        if episode.stop_reason is not StopReason.ANSWERED or episode.answer != outline.answer:
            return False
        shown = [search.shown_ids for search in episode.searches if search.passage_ids]
        turns = [end - start for start, end in episode.action_ranges]
        return (
            episode.n_searches == len(outline.steps)
            and all(shown)
            and max(turns) <= self.limits.turn_tokens
            and len(episode.ids) <= self.limits.max_length
        )

    @property
    def _most_queries(self) -> int:
        return self.protocol.tools[0].max_items if self.protocol.tools else 1

    def _holds_tag(self, outline: Outline) -> bool:
        said = [outline.thought, outline.answer]
        said += [text for step in outline.steps for text in (step.thought, *step.queries)]
        unwanted = {*self.protocol.tags, *self.tokenizer.special_texts}
        return any(text in each for each in said for text in unwanted)


@dataclass
class _Writer:
    """A policy that writes the outline's turns, each as the context before it asks for."""

    rewriter: Rewriter
    outline: Outline
    written: int = 0

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        protocol, steps = self.rewriter.protocol, self.outline.steps
        before = self.rewriter.tokenizer.decode(ids)
        if self.written < len(steps):
            step = steps[self.written]
            text = search_turn(protocol, step.thought, step.queries, before)
        else:
            text = answer_turn(protocol, self.outline.thought, self.outline.answer, before)
        self.written += 1
        turn = ScriptedPolicy(self.rewriter.tokenizer, [text])
        return await turn.generate(ids, stops=stops, max_tokens=max_tokens)


@dataclass
class _Found:
    """Finds, search after search, what the outline's policy was shown; of several queries the first finds it."""

    steps: list[OutlinedSearch]
    asked: list[str] = field(default_factory=list)

    async def search(self, request: SearchRequest) -> Hits:
        """The next step's passages, up to as many as are asked for."""
        if not self.asked:
            step = self.steps.pop(0)
            self.asked = list(step.queries)
            found = step.passages[: request.top_k]
        else:
            found = ()
        self.asked.pop(0)
        return tuple(Hit(passage, 1.0 / rank) for rank, passage in enumerate(found, start=1))

    async def close(self) -> None:
        """Nothing to release."""
