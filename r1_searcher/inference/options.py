"""The options of every command that asks a model: which one, where it runs, and where it searches."""

from __future__ import annotations

import argparse
from pathlib import Path

from foundation.chat.endpoint import EndpointConfig
from foundation.cli import above_zero, positive
from foundation.errors import InputError
from foundation.retry import RetryPolicy
from r1_searcher.host.device import Device
from r1_searcher.inference.policies import EngineModel, PlayedModel, ServedModel
from r1_searcher.inference.sources import SearchSources
from r1_searcher.recipe.options import changed_recipe, check_agent
from r1_searcher.recipe.recipe import Recipe, find_recipe
from r1_searcher.run.trained_with import TrainedWith

_EPISODES_OF_AN_ENGINE = 64


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Give a command the ways in which a model can run."""
    engine = parser.add_argument_group("the model in this process (vLLM)")
    engine.add_argument(
        "--device", choices=[device.value for device in Device], help="device (default: cuda where there is one)"
    )
    engine.add_argument("--tensor-parallel-size", type=positive, default=1, help="GPUs that share the model")
    engine.add_argument(
        "--engines", type=positive, default=1, help="engines side by side, on GPUs of their own (default: 1)"
    )
    served = parser.add_argument_group("the model behind an OpenAI-compatible endpoint")
    served.add_argument(
        "--endpoint", metavar="URL", help="address, e.g. http://127.0.0.1:8000; its key is in the environment"
    )
    served.add_argument("--tokenizer", metavar="DIR", help="the served model's tokenizer: a folder or a hub name")
    served.add_argument(
        "--endpoint-text", action="store_true", help="exchange text, for an endpoint without token ids: not exact"
    )
    served.add_argument(
        "--key-variable",
        default=EndpointConfig.key_variable,
        help="environment variable of the key (default: OPENAI_API_KEY, which goes to api.openai.com only)",
    )
    served.add_argument(
        "--endpoint-timeout",
        type=above_zero,
        default=300.0,
        metavar="S",
        help="longest time of one attempt at a turn in s (default: %(default)g)",
    )


def add_concurrency_option(parser: argparse.ArgumentParser) -> None:
    """Give a command that plays many episodes `--concurrency`; see `concurrency_of`."""
    parser.add_argument("--concurrency", type=positive, help="episodes at a time (default: 64 for each engine)")


def concurrency_of(options: argparse.Namespace) -> int:
    """How many episodes a command plays at a time."""
    return int(options.concurrency or _EPISODES_OF_AN_ENGINE * options.engines)


def endpoint_of(options: argparse.Namespace) -> EndpointConfig | None:
    """Where the model is served; None: it runs in this process. Raises `InputError`."""
    if options.endpoint is None:
        return None
    if options.tokenizer is None:
        raise InputError("--endpoint needs --tokenizer: the folder or hub name of the served model's tokenizer")
    timeout = options.endpoint_timeout
    retry = RetryPolicy.of_timeout(timeout)
    return EndpointConfig(options.endpoint, options.model, options.key_variable, timeout, retry)


def model_of(options: argparse.Namespace) -> PlayedModel:
    """The model that the options name. Raises `InputError`."""
    endpoint = endpoint_of(options)
    if endpoint is not None:
        if options.engines > 1:
            raise InputError("--engines are vLLM's on this machine; a served model has its own")
        return ServedModel(endpoint, options.tokenizer, options.endpoint_text, options.trust_remote_code)
    return EngineModel(
        options.model,
        Device(options.device) if options.device else None,
        options.tensor_parallel_size,
        options.seed,
        options.trust_remote_code,
        options.engines,
    )


def recipe_of(options: argparse.Namespace) -> Recipe:
    """`--recipe`, or what the model says that it was trained with; with the user's prompts and limits.

    Raises:
        InputError: the model says nothing and no recipe is named, or the prompts or limits cannot work.
    """
    folder = options.model if options.endpoint is None else options.tokenizer
    recipe = find_recipe(options.recipe) if options.recipe is not None else recipe_in(folder)
    if recipe is None:
        raise InputError(f"{folder} does not say what it was trained with (no r1_searcher.json); give --recipe NAME")
    recipe = changed_recipe(recipe, options)
    check_agent(recipe)
    return recipe


def recipe_in(folder: str | Path | None) -> Recipe | None:
    """What a model's folder says that it was trained with. Raises `InputError` for a file that cannot be read."""
    trained = None if folder is None else TrainedWith.read(folder)
    return None if trained is None else trained.recipe


def sources_of(options: argparse.Namespace, recipe: Recipe) -> SearchSources:
    """The sources that the episodes use. Raises `InputError` where one that they need is missing."""
    if recipe.limits.max_searches == 0:
        return SearchSources(search=None)
    if options.search is None:
        raise InputError(f"the recipe {recipe.name} searches; give --search")
    reads_pages = recipe.protocol.reads_pages
    if reads_pages and options.browse is None:
        raise InputError(f"the protocol {recipe.protocol.name} reads pages; give --browse, e.g. --browse pages:")
    return SearchSources(options.search, options.browse if reads_pages else None)
