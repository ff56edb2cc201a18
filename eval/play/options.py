"""The command line of `eval.run`: its flags, and the values that they mean."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path

from eval.play.contestant import BASELINES, Contestant, find_contestant
from eval.play.evaluation import Decoding
from eval.play.service import Services
from foundation.chat import EndpointConfig
from foundation.cli import OneLineParser, positive
from foundation.errors import InputError
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.question import QARow, read_rows
from r1_searcher.host.device import Device
from r1_searcher.recipe.recipe import RECIPES


def parser(description: str | None) -> argparse.ArgumentParser:
    """The parser; paths and numbers are checked by the functions below."""
    parser = OneLineParser(prog="eval.run", description=description, allow_abbrev=False)
    parser.add_argument("--recipe", required=True, help=f"one of: {', '.join([*RECIPES, *BASELINES])}")
    parser.add_argument("--model", required=True, help="Hugging Face folder or hub name, or the endpoint's name")
    parser.add_argument("--data", required=True, type=Path, help="JSONL of questions: id, question, answers")
    parser.add_argument("--retriever-url", help="search service, e.g. http://127.0.0.1:8000 (not for a closed book)")
    parser.add_argument(
        "--browse", metavar="SOURCE", help="source that reads pages, for protocols that browse, e.g. pages:"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of this evaluation; a killed one is continued")
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature; 0 is greedy (default)")
    parser.add_argument("--also-sampled", action="store_true", help="evaluate temperature 1 too, as training samples")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument("--limit", type=positive, help="only the first N questions")
    parser.add_argument("--concurrency", type=positive, default=64, help="episodes at a time")
    parser.add_argument("--prompt-file", type=Path, help="prompt with {question} in it, instead of the recipe's")
    parser.add_argument("--system-prompt-file", type=Path, help="system message instead of the recipe's")
    for limit in fields(Limits):
        flag, meaning = limit.name.replace("_", "-"), limit.name.replace("_", " ")
        parser.add_argument(f"--{flag}", type=int, metavar="N", help=f"{meaning} instead of the recipe's")
    parser.add_argument(
        "--note", action="append", default=[], metavar="KEY=VALUE", help="remark to keep with the scores"
    )
    engine = parser.add_argument_group("the model in this process (vLLM)")
    engine.add_argument(
        "--device", choices=[device.value for device in Device], help="device (default: cuda where there is one)"
    )
    engine.add_argument("--tensor-parallel-size", type=positive, default=1, help="GPUs that share the model")
    served = parser.add_argument_group("the model behind an OpenAI-compatible endpoint")
    served.add_argument(
        "--endpoint", metavar="URL", help="address, e.g. http://127.0.0.1:8000; its key is in the environment"
    )
    served.add_argument("--tokenizer", metavar="DIR", help="the served model's tokenizer: a folder or a hub name")
    served.add_argument(
        "--endpoint-text",
        action="store_true",
        help="evaluate through text, for an endpoint without token ids: not exact",
    )
    served.add_argument("--key-variable", default=EndpointConfig.key_variable, help="environment variable of the key")
    served.add_argument(
        "--endpoint-timeout", type=float, default=300.0, metavar="S", help="longest time of one turn in s"
    )
    return parser


def contestant_of(options: argparse.Namespace) -> Contestant:
    """The named recipe or baseline with the user's prompts and limits. Raises `InputError`."""
    contestant = find_contestant(options.recipe)
    changes = {limit.name: getattr(options, limit.name) for limit in fields(Limits)}
    given = {name: value for name, value in changes.items() if value is not None}
    recipe = contestant.recipe
    changed = replace(recipe, limits=replace(recipe.limits, **given))
    return replace(contestant, recipe=changed.with_prompts(options.prompt_file, options.system_prompt_file))


def decodings_of(options: argparse.Namespace) -> list[Decoding]:
    """The ways of sampling, each one once."""
    temperatures = dict.fromkeys([options.temperature, *[1.0] * options.also_sampled])
    return [Decoding(temperature, seed=options.seed) for temperature in temperatures]


def rows_of(options: argparse.Namespace) -> list[QARow]:
    """The questions. Raises `InputError` where two have the same id."""
    rows = read_rows(options.data)[: options.limit]
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InputError(f"{options.data}: two questions have the id {row.id!r}; each id must be unique")
        seen.add(row.id)
    return rows


def services_of(options: argparse.Namespace, contestant: Contestant) -> Services:
    """What the episodes reach out to. Raises `InputError` where something that they need is not given."""
    recipe = contestant.recipe
    if not contestant.searches:
        return Services(search=None)
    if options.retriever_url is None:
        raise InputError(f"the recipe {recipe.name} searches; give --retriever-url")
    reads_pages = any(tool.retriever == "browse" for tool in recipe.protocol_spec.tools)
    if reads_pages and options.browse is None:
        raise InputError(f"the protocol {recipe.protocol} reads pages; give --browse, e.g. --browse pages:")
    return Services(options.retriever_url, options.browse if reads_pages else None)


def endpoint_of(options: argparse.Namespace) -> EndpointConfig | None:
    """Where the model is served; None: it runs in this process. Raises `InputError`."""
    if options.endpoint is None:
        return None
    if options.tokenizer is None:
        raise InputError("--endpoint needs --tokenizer: the folder or hub name of the served model's tokenizer")
    return EndpointConfig(options.endpoint, options.model, options.key_variable, options.endpoint_timeout)


def notes_of(options: argparse.Namespace) -> dict[str, str]:
    """What the user wants to stand beside the scores. Raises `InputError`."""
    notes = {}
    for note in options.note:
        key, found, value = note.partition("=")
        if not (found and key and value):
            raise InputError(f"--note must be KEY=VALUE, found {note!r}")
        notes[key] = value
    return notes
