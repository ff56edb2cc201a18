"""The options of every command that plays episodes: which system, its prompts and limits, and where it searches."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

from foundation.cli import above_zero
from foundation.errors import InputError
from r1_searcher.episode.limits import Limits
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.recipe.plugins import add_plugin_option
from r1_searcher.recipe.recipe import Recipe


def add_recipe_options(parser: argparse.ArgumentParser, names: Iterable[str], *, required: bool = True) -> None:
    """Give a command `--recipe`, `--plugin`, and what can be changed of a recipe: prompts and limits."""
    parser.add_argument("--recipe", required=required, help=f"one of: {', '.join(names)}; or a plugin's")
    add_plugin_option(parser)
    parser.add_argument("--prompt-file", type=Path, help="prompt with {question} in it, instead of the recipe's")
    parser.add_argument("--system-prompt-file", type=Path, help="system message instead of the recipe's (empty: none)")
    own = parser.add_argument_group("an agent of your own plays the episodes (docs/own_agent.md)")
    own.add_argument("--agent", metavar="FILE.py:FUNCTION", help="a function of (question, settings) gives the answer")
    own.add_argument("--agent-command", metavar="COMMAND", help="a program that speaks JSON lines, in any language")
    own.add_argument(
        "--agent-seconds",
        type=above_zero,
        metavar="S",
        default=OwnAgent.seconds,
        help=f"longest time of its own in an episode, in s, without the model's (default: {OwnAgent.seconds:g})",
    )
    add_limit_options(parser)


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Give a command a flag for each limit of an episode."""
    group = parser.add_argument_group("limits of an episode, instead of the recipe's")
    for limit in fields(Limits):
        flag, meaning = limit.name.replace("_", "-"), limit.name.replace("_", " ")
        group.add_argument(f"--{flag}", type=int, metavar="N", help=meaning)


def changed_limits(limits: Limits, options: argparse.Namespace) -> Limits:
    """The limits with those that the user gave. Raises `InputError` where they cannot work."""
    changes = {limit.name: getattr(options, limit.name) for limit in fields(Limits)}
    return replace(limits, **{name: value for name, value in changes.items() if value is not None})


def changed_recipe(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with the prompts, limits and agent that the user gave.

    Raises:
        InputError: a prompt file or an agent cannot be used, or the limits cannot work.
    """
    agent = _agent(options) or recipe.agent
    if agent is not None and (options.prompt_file or options.system_prompt_file):
        raise InputError("an agent writes its own prompts; leave out --prompt-file and --system-prompt-file")
    changed = replace(recipe, limits=changed_limits(recipe.limits, options), agent=agent)
    return changed.with_prompts(options.prompt_file, options.system_prompt_file)


def _agent(options: argparse.Namespace) -> OwnAgent | None:
    if options.agent and options.agent_command:
        raise InputError("give either --agent or --agent-command")
    if options.agent:
        return OwnAgent.of_function(options.agent, options.agent_seconds)
    return OwnAgent.of_command(options.agent_command, options.agent_seconds) if options.agent_command else None


def check_agent(recipe: Recipe) -> None:
    """Raise `InputError` where episodes are to be played by an agent, and none is given."""
    if recipe.protocol.needs_agent and recipe.agent is None:
        raise InputError(f"the recipe {recipe.name} is played by an agent of yours; give --agent or --agent-command")


TRUST_FLAG = "--trust-remote-code"


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Give a command the flag without which no code runs that a model's folder or repository brings."""
    parser.add_argument(
        TRUST_FLAG, action="store_true", help="run Python code that the model brings (default: such a model is refused)"
    )


def add_search_options(parser: argparse.ArgumentParser, *, without: str = "") -> None:
    """Give a command `--search` (`--retriever-url` of earlier versions) and `--browse`.

    Args:
        without: what it means to leave `--search` out.
    """
    source = "search source: http://127.0.0.1:8000, or another of retriever.sources, e.g. web:serper"
    parser.add_argument(
        "--search",
        "--retriever-url",
        metavar="SOURCE",
        help=f"{source} ({without})" if without else source,
    )
    parser.add_argument(
        "--browse", metavar="SOURCE", help="source that reads pages (pages:), for protocols that browse"
    )
