"""What plays an evaluation: a recipe as it was trained, or a baseline that needs no training.

A baseline is a value as well: another prompt, another cap on searches, and whether the question itself is searched
for first. All of them play through the one episode loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from foundation.errors import InputError
from r1_searcher.episode.policy import Policy
from r1_searcher.episode.protocol import QUERY_FIELD, prompt_text
from r1_searcher.episode.question import QARow
from r1_searcher.episode.scripted_policy import ScriptedPolicy
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.recipe.recipe import RECIPES, Recipe


@dataclass(frozen=True)
class Contestant:
    """A recipe and how it is played."""

    recipe: Recipe
    searches_first: bool = False
    """Whether the first turn is written for the policy: a search for the question as it stands."""

    @property
    def searches(self) -> bool:
        """Whether a search can be answered at all; a closed book needs no search service."""
        return self.recipe.limits.max_searches != 0

    def player(self, policy: Policy, row: QARow, tokenizer: Tokenizer) -> Policy:
        """The policy as it plays this question; a policy with a first turn is good for one episode."""
        if not self.searches_first:
            return policy
        tags = self.recipe.protocol.query
        return ScriptedPolicy(tokenizer, [f"{tags.open} {row.question} {tags.close}"], then=policy)


def _like(name: str, recipe: Recipe, prompt_file: str = "", **limits: int) -> Recipe:
    """A recipe with another system prompt and other limits."""
    protocol = replace(recipe.protocol, system_prompt=prompt_text(prompt_file)) if prompt_file else recipe.protocol
    return replace(recipe, name=name, protocol=protocol, limits=replace(recipe.limits, **limits))


# For instruction-tuned models, in R1-Searcher's chat protocol with the top-k 5 of its evaluation. Prompted search is
# Search-o1's agentic loop (10 searches) without the step that condenses documents. The direct ones ask for no thought
# and no tags, as Search-R1's "direct inference" and "RAG" do.
_CHAT, _TINY = RECIPES["r1_searcher.chat.stage2"], RECIPES["tiny.stage2"]
_REPLY = 64
"""Tokens of a reply that is an answer and nothing else."""


def _direct(name: str, prompt_file: str, **limits: int) -> Recipe:
    """The chat recipe for a model that is asked for nothing but an answer: no thought, no tags.

    Documents are the user's next message: a model that was not trained for it ends a turn that they stand in. The
    question stands there once more, after them, because a small model has forgotten it by then.
    """
    plain = replace(_CHAT.protocol, prefill="", plain_answer=True, format={}, documents_role="user")
    asked_again = f"The question: {QUERY_FIELD}\nReply with the answer alone."
    plain = replace(plain, after_documents=f"{plain.after_documents}{asked_again}")
    return _like(name, replace(_CHAT, protocol=plain), prompt_file, turn_tokens=_REPLY, answer_tokens=_REPLY, **limits)


_ROWS = (
    Contestant(_direct("baseline.direct", "baseline_direct.txt", max_searches=0)),
    Contestant(
        _direct("baseline.direct_rag", "baseline_direct_rag.txt", max_searches=1, top_k=5),
        searches_first=True,
    ),
    Contestant(_like("baseline.closed_book", _CHAT, "baseline_closed_book.txt", max_searches=0)),
    Contestant(_like("baseline.rag", _CHAT, "baseline_rag.txt", max_searches=1, top_k=5), searches_first=True),
    Contestant(_like("baseline.prompted_search", _CHAT, "baseline_prompted_search.txt", max_searches=10, top_k=5)),
    Contestant(_like("tiny.closed_book", _TINY, max_searches=0)),
    Contestant(_like("tiny.rag", _TINY, max_searches=1), searches_first=True),
)

BASELINES: dict[str, Contestant] = {contestant.recipe.name: contestant for contestant in _ROWS}


def find_contestant(name: str) -> Contestant:
    """The recipe or baseline of this name. Raises `InputError` naming the known ones."""
    if name in BASELINES:
        return BASELINES[name]
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; known: {', '.join([*RECIPES, *BASELINES])}")
    return Contestant(RECIPES[name])
