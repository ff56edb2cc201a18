"""A model that searches by itself, ready to be asked: policies, recipe and search sources in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TextIO

from foundation.errors import InputError
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.question import QARow, check_text
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.episode.watching import Watch
from r1_searcher.inference.decoding import Decoding, PolicyFactory
from r1_searcher.inference.policies import PlayedModel
from r1_searcher.inference.sources import SearchSources
from r1_searcher.own_agent.player import OwnAgentPlayer
from r1_searcher.recipe.recipe import Recipe

_ANY_QUESTION = QARow("question", "Who?", ())


@dataclass(frozen=True)
class Agent:
    """What a question is asked."""

    recipe: Recipe
    policies: PolicyFactory
    environment: Environment
    player: OwnAgentPlayer | None = None
    """What plays the episodes of a recipe with an agent of the user's own."""

    def row_of(self, question: str) -> QARow:
        """A question whose answer nobody knows.

        Raises:
            InputError: it is empty, no text, or leaves no room for an episode.
        """
        try:
            check_text("the question", question)
        except ValueError as error:
            raise InputError(str(error)) from error
        if not question.strip():
            raise InputError("the question is empty")
        row = QARow(question, question, ())
        tokenizer, limit = self.environment.tokenizer, self.environment.limits.max_length
        tokens = len(tokenizer.encode(render_prompt(self.environment.protocol, row, tokenizer)))
        if tokens >= limit:
            raise InputError(f"the question with its prompt takes {tokens} tokens, and an episode may have {limit}")
        return row

    async def ask(self, row: QARow, decoding: Decoding, watch: Watch | None = None) -> Trajectory:
        """One episode. Cancelled, it gives its place in the engine back."""
        play = run_episode if self.player is None else self.player.play
        return await play(self.environment, row, self.policies.policy(decoding), watch=watch)


@asynccontextmanager
async def open_agent(
    model: PlayedModel, recipe: Recipe, services: SearchSources, tokenizer: HFTokenizer, console: TextIO
) -> AsyncIterator[Agent]:
    """A running agent; engine and connections end with it. Raises `InputError` where the model cannot run."""
    retriever, tools = services.open()
    environment = Environment(recipe.protocol, recipe.limits, retriever, tokenizer, tools)
    player = None if recipe.agent is None else OwnAgentPlayer(recipe.agent, most_failures=None)
    try:
        async with model.policies(recipe, _ANY_QUESTION, tokenizer, console) as policies:
            yield Agent(recipe, policies, environment, player)
    finally:
        for each in (retriever, *tools.values()):
            await each.close()
        if player is not None:
            await player.close()
