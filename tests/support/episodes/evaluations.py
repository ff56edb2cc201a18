"""A policy that knows which question it is asked, and rows and episodes to evaluate it on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.play.contestant import Contestant
from eval.play.session import Session, Timing
from eval.results.folder import Predictions
from r1_searcher.episode.policy import Completion
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.inference.decoding import Decoding
from r1_searcher.recipe.recipe import find_recipe
from support.episodes.fakes import FakeRetriever, Result, ScriptedPolicy, Turn, ask, passages, say, tag_tokenizer

RECIPE = find_recipe("tiny.stage2")
Script = Sequence[str | Turn]


def rows(count: int) -> list[QARow]:
    """Questions `Q0?`, `Q1?`, … with answers `a0`, `a1`, …, one hop and two hops in turn."""
    return [QARow(f"id{n}", f"Q{n}?", (f"a{n}",), "toy", 1 + n % 2) for n in range(count)]


def right(row: QARow) -> Script:
    """Searches once, then answers correctly."""
    return [ask(row.question), say(row.answers[0])]


def wrong(row: QARow) -> Script:
    """Answers at once, wrongly."""
    return [say("nothing")]


@dataclass
class PolicyByQuestion:
    """Plays each question's own script, however many episodes run at once; also its own source."""

    scripts: Mapping[str, Script]
    tokenizer: Tokenizer = field(default_factory=tag_tokenizer)
    asked: list[str] = field(default_factory=list)
    """Questions in the order of their first turns."""
    _episodes: dict[str, ScriptedPolicy] = field(default_factory=dict)

    def policy(self, decoding: Decoding) -> PolicyByQuestion:
        return PolicyByQuestion(self.scripts, self.tokenizer, self.asked)

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        context = self.tokenizer.decode(ids)
        question = next(question for question in self.scripts if re.search(rf"\s{re.escape(question)}", context))
        if question not in self._episodes:
            self.asked.append(question)
            self._episodes[question] = ScriptedPolicy(self.tokenizer, self.scripts[question])
        return await self._episodes[question].generate(ids, stops=stops, max_tokens=max_tokens)


def policy_of(questions: Sequence[QARow], script: Callable[[QARow], Script] = right) -> PolicyByQuestion:
    return PolicyByQuestion({row.question: script(row) for row in questions})


def retriever_of(*results: Result) -> FakeRetriever:
    return FakeRetriever(results or (passages("a fact"),))


@dataclass
class Run:
    """One attempt at an evaluation in `folder`."""

    folder: Path
    questions: Sequence[QARow]
    source: PolicyByQuestion
    retriever: FakeRetriever = field(default_factory=retriever_of)
    decodings: Sequence[Decoding] = (Decoding(),)
    concurrency: int = 4
    contestant: Contestant = Contestant(RECIPE)

    async def __call__(self) -> Session:
        predictions = Predictions(self.folder / "predictions.jsonl")
        session = Session(self.contestant, self.questions, self.decodings, predictions, Timing(), self.concurrency)
        try:
            recipe = self.contestant.recipe
            environment = Environment(recipe.protocol, recipe.limits, self.retriever, self.source.tokenizer)
            await session.ask(self.source, environment, io.StringIO())
        finally:
            predictions.close()
        return session
