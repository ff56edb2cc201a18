"""The command line of `data_prep.select`: its flags, and the values that they mean."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from data_prep.select.difficulty import Bounds
from data_prep.select.question_sets import PLANS, Plan, Quota
from data_prep.select.rollouts import Criterion, RolloutPlan
from data_prep.select.selection import read_manifest
from eval.play.contestant import find_contestant
from foundation.cli import OneLineParser, above_zero, natural, positive
from foundation.errors import InputError
from foundation.files import file_sha256
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.question import QARow, check_ids, read_rows
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.options import add_concurrency_option, add_model_options
from r1_searcher.recipe.options import (
    add_limit_options,
    add_search_options,
    add_trust_option,
    changed_limits,
    check_agent,
)
from r1_searcher.recipe.plugins import add_plugin_option

NOT_RECORDED = ("out", "from_manifest", "search", "browse", "plugins", "endpoint", "key_variable", "concurrency",
                "device", "engines", "tensor_parallel_size", "endpoint_timeout", "model_is_named",
                "trust_remote_code")  # fmt: skip
"""Flags that no set depends on, such as addresses: a rebuild takes them from its own command line, and nowhere else."""
_MODELS = ("model", "tokenizer")
_LIMITS = {limit.name for limit in fields(Limits)}


@dataclass(frozen=True)
class Job:
    """A selection, as its flags mean it."""

    rows: list[QARow]
    closed_book: RolloutPlan
    search: RolloutPlan
    decoding: Decoding
    criterion: Criterion
    bounds: Bounds
    plan: Plan
    keep_known: bool


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The flags, those of a manifest where one is named, and that manifest.

    A manifest may be a stranger's: it can set what a selection records and nothing else, no key, address or plugin;
    and a model that only the manifest names is compared, not loaded (`model_is_named`).

    Raises:
        InputError: the manifest cannot be read or sets more than that, or something that is needed is not given.
    """
    parser = _parser(description)
    given = parser.parse_args(argv)
    manifest = None
    if given.from_manifest is not None:
        manifest = read_manifest(given.from_manifest)
        defaults = _recorded_values(parser, given.from_manifest, manifest["options"])
        parser.set_defaults(**defaults, data=[Path(each["path"]) for each in manifest["inputs"]])
    options = parser.parse_args(argv)
    options.model_is_named = all(getattr(given, name) == getattr(options, name) for name in _MODELS)
    for name in ("data", "model", "out"):
        if getattr(options, name) is None:
            raise InputError(f"--{name} is missing (see --help)")
    return options, manifest


def _recorded_values(parser: argparse.ArgumentParser, path: Path, written: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's flags, each checked as if it stood on the command line. Raises `InputError`."""
    known = {*recorded(parser.parse_args([])), *_LIMITS}
    foreign = sorted(set(written) - known)
    if foreign:
        raise InputError(f"{path} sets {', '.join(map(repr, foreign))}, which no manifest records; is it one of ours?")
    values: dict[str, Any] = {}
    for action in parser._actions:
        value = written.get(action.dest)
        if value is None:
            continue
        try:
            values[action.dest] = _checked(action, value)
        except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
            raise InputError(f"{path}: {action.dest} cannot be {value!r:.100} ({error})") from error
    return values


def _checked(action: argparse.Action, value: Any) -> Any:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value
    if action.nargs is not None:
        if not isinstance(value, list):
            raise ValueError("expected a list")
        return [str(each) for each in value]
    if isinstance(value, (list, dict)):
        raise ValueError("expected one value")
    read = action.type(str(value)) if callable(action.type) else str(value)
    if action.choices is not None and read not in action.choices:
        raise ValueError(f"expected one of {', '.join(action.choices)}")
    return read


def recorded(options: argparse.Namespace) -> dict[str, Any]:
    """The flags that a manifest keeps, limits where they are given; the files are kept with their hashes."""
    left_out = {*NOT_RECORDED, "data", *(name for name in _LIMITS if getattr(options, name) is None)}
    return {name: value for name, value in vars(options).items() if name not in left_out}


def job_of(options: argparse.Namespace) -> Job:
    """The selection that the flags mean. Raises `InputError`."""
    bounds = Bounds(options.easy_below, options.hard_above)
    bounds.check_samples(options.k)
    closed_book, search = find_contestant(options.closed_book), find_contestant(options.recipe)
    check_agent(search.recipe)
    limited = replace(search.recipe, limits=changed_limits(search.recipe.limits, options))
    if closed_book.searches:
        raise InputError(f"--closed-book {options.closed_book} searches; name a recipe that does not")
    return Job(
        rows=_rows(options.data),
        closed_book=RolloutPlan("closed_book", closed_book, options.closed_book_k),
        search=RolloutPlan("search", replace(search, recipe=limited), options.k),
        decoding=Decoding(options.temperature, options.top_p, options.seed),
        criterion=Criterion(options.metric, options.right_from),
        bounds=bounds,
        plan=_plan(options),
        keep_known=options.known == "mark",
    )


def _rows(files: Sequence[Path]) -> list[QARow]:
    rows = [row for file in files for row in read_rows(file)]
    check_ids(rows, ", ".join(map(str, files)))
    return rows


def _plan(options: argparse.Namespace) -> Plan:
    given = {"stage1": options.stage1, "stage2": options.stage2}
    own = {stage: tuple(map(Quota.parse, quotas)) for stage, quotas in given.items() if quotas is not None}
    return {**PLANS[options.plan], **own}


def inputs_of(files: Sequence[Path]) -> list[dict[str, str]]:
    """The input files with their hashes."""
    return [{"path": str(file), "sha256": file_sha256(file)} for file in files]


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="data_prep.select", description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, nargs="+", metavar="FILE", help="JSONL of questions, ids unique over all files")
    add("--model", help="Hugging Face folder or hub name, or the endpoint's name")
    add("--out", type=Path, metavar="DIR", help="folder of this selection; a killed one is continued")
    add("--from-manifest", type=Path, metavar="FILE", help="rebuild the sets of a manifest in --out, and compare")
    add_search_options(parser)
    add_plugin_option(parser)
    add("--recipe", default="baseline.prompted_search", help="recipe of the episodes with search (%(default)s)")
    add("--closed-book", default="baseline.closed_book", metavar="RECIPE", help="recipe of those without (%(default)s)")
    add("--k", type=positive, default=20, help="rollouts with search at most (%(default)s)")
    add("--closed-book-k", type=natural, default=10, metavar="N", help="rollouts without; 0: no filter (%(default)s)")
    add("--known", choices=("drop", "mark"), default="drop", help="what to do with questions answered without search")
    add("--easy-below", type=int, default=Bounds.easy_below, metavar="N", help="rollouts to rightness (%(default)s)")
    add("--hard-above", type=int, default=Bounds.hard_above, metavar="N", help="rollouts to rightness (%(default)s)")
    add("--metric", default=Criterion.metric, help="metric that decides what is right (%(default)s)")
    add(
        "--right-from",
        type=float,
        default=Criterion.right_from,
        metavar="V",
        help="value of --metric from which an answer is right (%(default)s)",
    )
    add(
        "--temperature",
        type=above_zero,
        default=1.0,
        help="sampling temperature (%(default)s); greedy rollouts would all be equal",
    )
    add("--top-p", type=float, default=1.0, help="nucleus of the sampling (%(default)s)")
    add(
        "--seed",
        type=int,
        default=0,
        help="seed of the draw and of the first rollout; each further rollout has the next one",
    )
    add("--plan", choices=tuple(PLANS), default="r1_searcher", help="composition of the sets (%(default)s)")
    for stage in ("stage1", "stage2"):
        add(
            f"--{stage}",
            nargs="*",
            metavar="QUOTA",
            help="quotas instead of the plan's, e.g. hotpotqa:medium=200 '*:hard=all'",
        )
    add_limit_options(parser)
    add_concurrency_option(parser)
    add_trust_option(parser)
    add_model_options(parser)
    return parser
