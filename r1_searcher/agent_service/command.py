"""Serve models that search by themselves: `python -m r1_searcher.serve --agent --model DIR --search SOURCE`.

OpenAI's interface at `/v1`, a page at `/`, a tool at `/mcp`; docs/ask.md describes them. --model may be given several
times, as DIR or NAME=DIR, to compare models side by side: each then runs in a process of its own. A model that was
trained here knows its recipe and limits; one that does not is asked as --recipe says, or like the first that does. With
AGENT_TOKEN in the environment, or --token-file, requests must carry the token. Exit statuses: 0 after a signal or the
parent's end, 2 for bad input, 3 where an endpoint does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from foundation.cli import TIMED, OneLineParser, above_zero, expected, log_to_stderr, natural, positive, run_command
from foundation.errors import InputError
from foundation.process import StopSignal, bind, url_of
from foundation.web_server import add_address_options, add_lifetime_options, begin_lifetime, token_of, warn_if_open
from r1_searcher.agent_service.app import MAX_BODY_BYTES, create_app
from r1_searcher.agent_service.host import host
from r1_searcher.agent_service.service import AgentService, ServiceLimits
from r1_searcher.agent_service.store import EpisodeStore
from r1_searcher.inference.agent import open_agent
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.options import add_model_options, model_of, recipe_in, sources_of
from r1_searcher.inference.policies import EngineModel, PlayedModel
from r1_searcher.inference.sources import SearchSources
from r1_searcher.launch.playground import RUNS
from r1_searcher.recipe.options import (
    add_recipe_options,
    add_search_options,
    add_trust_option,
    changed_recipe,
    check_agent,
)
from r1_searcher.recipe.recipe import RECIPES, Recipe, find_recipe

TOKEN_VARIABLE = "AGENT_TOKEN"
"""Environment variable with the token that callers must send."""
_LIMITS = ServiceLimits()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; see the module's docstring."""
    options = parser().parse_args(argv)
    log_to_stderr(TIMED)
    return run_command("r1_searcher.serve", lambda: _serve(options))


def parser() -> OneLineParser:
    """The options of `r1_searcher.serve --agent`."""
    name = "python -m r1_searcher.serve --agent"
    parser = OneLineParser(prog=name, description=__doc__, allow_abbrev=False, conflict_handler="resolve")
    add = parser.add_argument
    add("--model", dest="models", action="append", required=True, metavar="[NAME=]DIR", help="model; may be repeated")
    add("--temperature", type=float, default=0.0, help="of requests that name none; 0 is greedy (default)")
    add("--seed", type=int, default=0, help="of requests that name none")
    add_search_options(parser, without="not for a closed book")
    add_recipe_options(parser, RECIPES, required=False)
    # In place of the flag that names an agent of the user's own, of which --agent-command is left.
    add("--agent", dest="is_agent", action="store_true", required=True, help="serve the searching agent")
    parser.set_defaults(agent=None)
    add_trust_option(parser)
    add_model_options(parser)
    add = parser.add_argument_group("limits").add_argument
    add("--at-once", type=positive, default=_LIMITS.at_once, metavar="N", help="episodes at a time (%(default)s)")
    add("--waiting", type=natural, default=_LIMITS.waiting, metavar="N", help="requests that may wait (%(default)s)")
    add("--episode-seconds", type=above_zero, default=_LIMITS.episode_s, metavar="S", help="of one (%(default)g)")
    add("--drain-seconds", type=above_zero, default=_LIMITS.drain_s, metavar="S", help="to finish in (%(default)g)")
    add("--max-body-bytes", type=positive, default=MAX_BODY_BYTES, metavar="N", help="of a request (%(default)s)")
    add = parser.add_argument_group("process").add_argument
    add("--store", type=Path, default=RUNS / "agent", metavar="DIR", help="episodes and ratings (%(default)s)")
    add("--keep", type=positive, default=10_000, metavar="N", help="episodes kept there (%(default)s)")
    add_address_options(add, token=TOKEN_VARIABLE)
    add_lifetime_options(add)
    return parser


def _serve(options: argparse.Namespace) -> None:
    signals = StopSignal()
    decoding = Decoding(options.temperature, seed=options.seed)
    played = models_by_name(options)
    with expected(OSError, ValueError):
        begin_lifetime(options)
        token = token_of(options.token_file, TOKEN_VARIABLE)
        listener = bind(options.host, options.port)
    with listener, contextlib.closing(EpisodeStore(options.store, options.keep)) as store:
        for model, _, services in played.values():
            model.check()
            services.facts()
        warn_if_open(options.host, token)
        asyncio.run(_run(options, played, store, decoding, token, listener, signals))


async def _run(
    options: argparse.Namespace,
    played: Mapping[str, tuple[PlayedModel, Recipe, SearchSources]],
    store: EpisodeStore,
    decoding: Decoding,
    token: str | None,
    listener: socket.socket,
    signals: StopSignal,
) -> None:
    """Start the engines, and serve."""
    limits = ServiceLimits(options.at_once, options.waiting, options.episode_seconds, options.drain_seconds)
    async with contextlib.AsyncExitStack() as stack:
        agents = {}
        for name, (model, recipe, services) in played.items():
            opened = open_agent(model, recipe, services, model.load_tokenizer(), sys.stderr)
            agents[name] = await stack.enter_async_context(opened)
        service = AgentService(agents, store, limits, decoding)
        app = create_app(service, token=token, max_body_bytes=options.max_body_bytes, host=options.host)
        url = url_of(options.host, listener)
        ready = {"url": url, "ready_file": options.ready_file}
        await host(app, listener, signals, **ready, stop=service.stop, drain_s=limits.drain_s)


def models_by_name(options: argparse.Namespace) -> dict[str, tuple[PlayedModel, Recipe, SearchSources]]:
    """The models by their names, each with its recipe and sources. Raises `InputError`."""
    named = dict(_named(text) for text in options.models)
    if len(named) < len(options.models):
        raise InputError(f"two models have one name; give --model NAME=DIR (found {', '.join(options.models)})")
    own = {name: recipe_in(where if options.endpoint is None else options.tokenizer) for name, where in named.items()}
    known = next((recipe for recipe in own.values() if recipe is not None), None)
    played = {}
    for place, (name, where) in enumerate(named.items()):
        recipe = find_recipe(options.recipe) if options.recipe is not None else own[name] or known
        if recipe is None:
            raise InputError(f"{where} does not say what it was trained with (no r1_searcher.json); give --recipe NAME")
        recipe = changed_recipe(recipe, options)
        check_agent(recipe)
        model = model_of(argparse.Namespace(**{**vars(options), "model": where}))
        if isinstance(model, EngineModel):
            model = replace(model, place=place, of=len(named))
        played[name] = model, recipe, sources_of(options, recipe)
    return played


def _named(text: str) -> tuple[str, str]:
    name, equals, where = text.partition("=")
    return (name, where) if equals and name and where else (text, text)
