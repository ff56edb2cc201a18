"""Evaluate: `python -m eval.run --recipe NAME --model DIR --data FILE --search URL --out DIR`.

The same episodes as in training, on one vLLM engine in this process, or with `--endpoint URL --tokenizer DIR` on
a served model. Greedy by default; `--also-sampled` adds the way that training samples. Killed, the same command
continues where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import TextIO

from eval.play.evaluation import Play
from eval.play.options import (
    contestant_of,
    decodings_of,
    notes_of,
    parser,
    plugins_of,
    rows_of,
    sources_of,
)
from eval.play.provenance import provenance_of, settings_of
from eval.play.session import Session, Timing
from eval.results.folder import EvaluationFolder, Predictions
from eval.results.scores import Scores, scores_table
from eval.results.summary import FAILURES
from foundation.cli import run_command
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.inference.engine import console_apart
from r1_searcher.inference.options import concurrency_of, model_of
from r1_searcher.inference.policies import PlayedModel
from r1_searcher.inference.sources import SearchSources
from r1_searcher.launch import preflight
from r1_searcher.own_agent.player import OwnAgentPlayer
from retriever.interface import Retriever


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, a dead service or a full disk status 3."""
    options = parser(__doc__).parse_args(argv)
    return run_command("eval.run", lambda: _run(options), resumable=True)


def _run(options: argparse.Namespace) -> None:
    timing = Timing()
    folder = EvaluationFolder(options.out.resolve())
    with folder.held():
        _evaluate(options, folder, timing)


def _evaluate(options: argparse.Namespace, folder: EvaluationFolder, timing: Timing) -> None:
    contestant, rows, decodings = contestant_of(options), rows_of(options), decodings_of(options)
    notes = notes_of(options)
    if said := contestant.recipe.reward.without_judge:
        print(f"eval.run: {said}; python -m eval.judge asks one about the answers", file=sys.stderr)
    model, services = model_of(options), sources_of(options, contestant)
    model.check()
    facts = services.facts()
    settings = settings_of(contestant, model, rows, decodings, facts, notes, plugins_of(options))
    folder.check_owner(settings)
    folder.claim(settings)
    predictions = Predictions(folder.predictions_file)
    session = Session(contestant, rows, decodings, predictions, timing, concurrency_of(options))
    timing.lap("checks")
    try:
        if not session.is_complete:
            with console_apart(folder.log_file) as console:
                _answer(session, model, services, console)
    finally:
        predictions.close()
    scores = session.scores()
    provenance = provenance_of(settings, model, options.data, timing.seconds)
    Scores(scores, provenance).write(folder.scores_file)
    print(scores_table(scores))
    failed = {name: sum(block[name] for block in scores.values()) for name in FAILURES}
    if any(failed.values()):
        searches, agents = failed["retriever_errors"], failed["agent_errors"]
        what = f"{searches} searches failed" + (f", and the agent {agents} times" if agents else "")
        print(f"eval.run: {what}; the same command asks those questions again", file=sys.stderr)


def _answer(session: Session, model: PlayedModel, services: SearchSources, console: TextIO) -> None:
    """Start what gives the policy, and ask what is missing; progress goes to `console`."""
    recipe = session.contestant.recipe
    tokenizer = model.load_tokenizer()
    preflight.check_prompts(recipe, tokenizer, session.rows)

    async def ask() -> None:
        retriever, tools = services.open()
        environment = Environment(recipe.protocol, recipe.limits, retriever, tokenizer, tools)
        opened: list[Retriever | OwnAgentPlayer] = [retriever, *tools.values()]
        play: Play = run_episode
        if recipe.agent is not None:
            opened.append(player := OwnAgentPlayer(recipe.agent, session.concurrency))
            play = player.play
        try:
            async with model.policies(recipe, session.rows[0], tokenizer, console) as source:
                session.timing.lap("start_up")
                await session.ask(source, environment, console, play)
        finally:
            for each in opened:
                await each.close()

    asyncio.run(ask())


if __name__ == "__main__":
    sys.exit(main())
