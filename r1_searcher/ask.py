"""Ask a model that searches, and watch it: `python -m r1_searcher.ask --model DIR --search SOURCE ["question"]`.

Without a question, a conversation begins: one question a line, each of them an episode of its own. Ctrl-C ends an
episode, Ctrl-D the conversation. A model that was trained here knows its recipe and limits; any other needs --recipe.
With --json, each episode is one line of JSON: the trajectory, as a run's logs hold it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError, RunAborted
from foundation.json_lines import line_of
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.inference.agent import Agent, open_agent
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.engine import console_apart
from r1_searcher.inference.options import add_model_options, model_of, recipe_of, sources_of
from r1_searcher.inference.printed_episode import EpisodePrinter, failure_of, takes_colour
from r1_searcher.recipe.options import add_recipe_options, add_search_options, add_trust_option
from r1_searcher.recipe.recipe import RECIPES

_QUESTIONS_KEPT = 1000
"""Of earlier conversations, for the arrow keys."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, a dead service status 3."""
    options = parser().parse_args(argv)
    return run_command("r1_searcher.ask", lambda: _run(options))


def parser() -> OneLineParser:
    """The options of the command."""
    parser = OneLineParser(prog="r1_searcher.ask", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("question", nargs="?", help="what to ask; without it, questions are read line by line")
    add("--model", required=True, help="Hugging Face folder or hub name, or the endpoint's name")
    add("--json", action="store_true", help="write each episode as one line of JSON, at its end")
    add("--temperature", type=float, default=0.0, help="sampling temperature; 0 is greedy (default)")
    add("--seed", type=int, default=0, help="seed of the sampling")
    add_search_options(parser, without="not for a closed book")
    add_recipe_options(parser, RECIPES, required=False)
    add_trust_option(parser)
    add_model_options(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    decoding = Decoding(options.temperature, seed=options.seed)
    recipe = recipe_of(options)
    model, services = model_of(options), sources_of(options, recipe)
    model.check()
    services.facts()
    state = _state_folder()
    # Libraries may write what they like to their own log: the episode, or its JSON, stands alone on stdout.
    with (
        os.fdopen(os.dup(1), "w", encoding="utf-8") as out,
        asyncio.Runner() as runner,
        console_apart(state / "ask.log") as console,
    ):
        stack = contextlib.AsyncExitStack()
        try:
            opened = open_agent(model, recipe, services, model.load_tokenizer(), console)
            agent = runner.run(stack.enter_async_context(opened))
            _converse(options, Questioner(agent, decoding, out, console, runner, options.json), state)
        finally:
            runner.run(stack.aclose())


def _converse(options: argparse.Namespace, questioner: Questioner, state: Path) -> None:
    """Ask the one question, or all that are written. Raises `RunAborted` where one failed that nobody typed."""
    if options.question is not None:
        failure = _failure(questioner.ask(options.question))
        if failure:
            raise RunAborted(failure)
        return
    typed = sys.stdin.isatty() and questioner.out.isatty()
    asked = failed = 0
    for question in _typed(questioner.out, state / "ask_history") if typed else sys.stdin:
        if not question.strip():
            continue
        asked += 1
        try:
            failure = _failure(questioner.ask(question.strip()))
        except (InputError, RunAborted) as error:
            failure = str(error)
        except KeyboardInterrupt:
            if not typed:
                raise
            continue
        if failure:
            failed += 1
            print(f"r1_searcher.ask: {failure}", file=questioner.console)
    if failed and not typed:
        raise RunAborted(f"{failed} of {asked} questions failed, see above")


def _failure(trajectory: Trajectory) -> str:
    """What, other than the model, ended an episode; empty where nothing did."""
    if trajectory.stop_reason is StopReason.AGENT_ERROR:
        return "the agent's own code failed; ask.log says how"
    failure = failure_of(trajectory)
    return f"the search failed: {failure}; start the search service and ask again" if failure else ""


@dataclass(frozen=True)
class Questioner:
    """Puts questions to one agent, each an episode of its own."""

    agent: Agent
    decoding: Decoding
    out: TextIO
    """Where episodes are written."""
    console: TextIO
    """Where problems are written."""
    runner: asyncio.Runner
    as_json: bool = False

    def ask(self, question: str) -> Trajectory:
        """One episode, written as it happens or, as JSON, at its end.

        Raises:
            InputError: this cannot be asked.
            KeyboardInterrupt: Ctrl-C has ended the episode.
            RunAborted: the endpoint does not answer.
        """
        row = self.agent.row_of(question)
        printer = EpisodePrinter(self.out, colour=takes_colour(self.out))
        try:
            trajectory = self.runner.run(self.agent.ask(row, self.decoding, None if self.as_json else printer))
        except KeyboardInterrupt:
            printer.break_off()
            raise
        if self.as_json:
            self.out.write(line_of(to_mapping(trajectory)))
            self.out.flush()
        return trajectory


def _typed(out: TextIO, history: Path) -> Iterator[str]:
    """The lines of a person, who may edit them and go back to earlier ones."""
    import readline

    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(_QUESTIONS_KEPT)
    print("Ask a question. Ctrl-C ends an episode, Ctrl-D the conversation.", file=out, flush=True)
    try:
        while True:
            try:
                with _standard_output(out):
                    question = input("? ")
            except KeyboardInterrupt:
                print(file=out, flush=True)
                continue
            except EOFError:
                print(file=out, flush=True)
                return
            yield question
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(history)


@contextlib.contextmanager
def _standard_output(file: TextIO) -> Iterator[None]:
    """Have descriptor 1, where readline writes, be this file."""
    before = os.dup(1)
    os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def _state_folder() -> Path:
    """Where the engine's log and the questions' history are kept: this user's, where there is a place for it."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = base / "r1_searcher"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "ask.log").write_text("", encoding="utf-8")
    except OSError:
        return Path(tempfile.mkdtemp(prefix="r1_searcher_ask_"))
    return folder


if __name__ == "__main__":
    sys.exit(main())
