"""Evaluate: ``python -m eval.run --recipe NAME --model DIR --data FILE --retriever-url URL --out DIR``.

The same episodes as in training, on one vLLM engine in this process.  Greedy by default; ``--also-sampled``
adds the way that training samples.  Killed, the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from eval.engine import VllmEngine, console_apart, prepare_environment
from eval.evaluation import Decoding
from eval.folder import EvaluationFolder, Predictions, write_json
from eval.provenance import provenance_of, settings_of
from eval.session import Session, Timing
from eval.table import scores_table
from r1_searcher.errors import InputError, RunAborted
from r1_searcher.host import preflight
from r1_searcher.host.device import Device
from r1_searcher.limits import Limits
from r1_searcher.question import QARow, read_rows
from r1_searcher.recipe import RECIPES, Recipe, find_recipe
from retriever.client import HttpRetriever
from retriever.errors import RetrieverError
from retriever.process import OneLineParser
from retriever.wire import Health

ABORTED = 3
"""Exit status where the search service ended the evaluation."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.run", description=__doc__, allow_abbrev=False)
    parser.add_argument("--recipe", required=True, help=f"one of: {', '.join(RECIPES)}")
    parser.add_argument("--model", required=True, help="Hugging Face model: a folder, or a hub name org/model")
    parser.add_argument("--data", required=True, type=Path, help="JSONL of questions: id, question, answers")
    parser.add_argument("--retriever-url", required=True, help="search service, e.g. http://127.0.0.1:8000")
    parser.add_argument("--out", required=True, type=Path, help="folder of this evaluation; a killed one goes on")
    parser.add_argument("--temperature", type=float, default=0.0, help="of the sampling; 0 is greedy (default)")
    parser.add_argument("--also-sampled", action="store_true", help="evaluate temperature 1 too, as training samples")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--limit", type=int, help="only the first N questions")
    parser.add_argument("--concurrency", type=int, default=64, help="episodes at a time")
    for limit in fields(Limits):
        flag, meaning = limit.name.replace("_", "-"), limit.name.replace("_", " ")
        parser.add_argument(f"--{flag}", type=int, metavar="N", help=f"{meaning} instead of the recipe's")
    parser.add_argument("--device", choices=[device.value for device in Device], help="default: what is there")
    parser.add_argument("--tensor-parallel-size", type=int, default=1, help="GPUs that share the model")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, a dead search service status 3."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except (InputError, RunAborted) as error:
        print(f"eval: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else ABORTED
    except KeyboardInterrupt:
        print("eval: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace) -> None:
    timing = Timing()
    recipe, rows = _recipe(options), _rows(options)
    decodings = _decodings(options)
    preflight.check_model_path(options.model)
    preflight.check_retriever(options.retriever_url)
    settings = settings_of(recipe, options.model, rows, decodings, _health(options.retriever_url))
    folder = EvaluationFolder(options.out.resolve())
    folder.check_owner(settings)
    folder.claim(settings)
    predictions = Predictions(folder.predictions_file)
    session = Session(recipe, rows, decodings, predictions, timing, options.concurrency)
    timing.lap("checks")
    try:
        if not session.is_complete:
            _answer(options, session, folder)
    finally:
        predictions.close()
    scores = session.scores()
    provenance = provenance_of(settings, options.model, options.data, timing.seconds)
    write_json(folder.scores_file, {**scores, "provenance": provenance})
    print(scores_table(scores))
    failed = sum(block["retriever_errors"] for block in scores.values())
    if failed:
        print(f"eval: {failed} searches failed; the same command asks those questions again", file=sys.stderr)


def _recipe(options: argparse.Namespace) -> Recipe:
    """The named recipe with the user's limits."""
    recipe = find_recipe(options.recipe)
    changes = {limit.name: getattr(options, limit.name) for limit in fields(Limits)}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, limits=replace(recipe.limits, **given))


def _decodings(options: argparse.Namespace) -> list[Decoding]:
    temperatures = dict.fromkeys([options.temperature, *[1.0] * options.also_sampled])
    return [Decoding(temperature, seed=options.seed) for temperature in temperatures]


def _rows(options: argparse.Namespace) -> list[QARow]:
    for name in ("limit", "concurrency", "tensor_parallel_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, found {value}")
    rows = read_rows(options.data)[: options.limit]
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InputError(f"{options.data}: two questions have the id {row.id!r}; each id must be unique")
        seen.add(row.id)
    return rows


def _health(url: str) -> Health:
    async def ask() -> Health:
        async with HttpRetriever(url) as client:
            return await client.health()

    try:
        return asyncio.run(ask())
    except RetrieverError as error:
        raise InputError(f"the retriever does not say what it serves: {error}") from error


def _answer(options: argparse.Namespace, session: Session, folder: EvaluationFolder) -> None:
    """Start the engine and ask what is missing."""
    recipe = session.recipe
    with console_apart(folder.log_file) as console:
        device = prepare_environment(Device(options.device) if options.device else None)
        tokenizer = preflight.load_tokenizer(options.model)
        preflight.check_prompt_lengths(recipe, session.rows, tokenizer)
        print(f"starting vLLM on {device.value}; its output is in {folder.log_file}", file=console)
        engine = VllmEngine.start(
            options.model,
            max_length=recipe.limits.max_length,
            device=device,
            tensor_parallel_size=options.tensor_parallel_size,
            seed=options.seed,
        )
        session.timing.lap("start_up")

        async def ask() -> None:
            async with HttpRetriever(options.retriever_url) as retriever:
                await session.ask(engine, retriever, tokenizer, console)

        try:
            asyncio.run(ask())
        finally:
            engine.close()


if __name__ == "__main__":
    sys.exit(main())
