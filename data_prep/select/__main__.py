"""Classify questions by how hard they are for a model with search, and draw the training sets of the stages.

    python -m data_prep.select --data hotpotqa.jsonl 2wiki.jsonl --model DIR --search URL --out DIR
    python -m data_prep.select --from-manifest OLD/manifest.json --out DIR

First each question is asked without search (answered once: known, and dropped or marked), then with search until it is
answered right: in fewer than 10 rollouts it is easy, in 10 to 20 medium, in none of 20 hard, as in R1-Searcher.
Killed, the same command continues where it stopped. The manifest names all that the sets follow from; with the rollouts
beside it they are rebuilt without the model, else by playing again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data_prep.select import options as flags
from data_prep.select.options import Job
from data_prep.select.question_sets import draw_question_sets
from data_prep.select.rollouts import Roller, RolloutLog, RolloutPlan, seeds_of
from data_prep.select.selection import (
    Selection,
    SelectionFolder,
    check_rebuilt,
    class_questions,
)
from eval.play.contestant import Contestant
from eval.play.options import sources_of
from eval.play.provenance import settings_of
from foundation.cli import log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import read_json
from foundation.owned_folder import check_equal
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment
from r1_searcher.inference.engine import console_apart
from r1_searcher.inference.options import concurrency_of, model_of
from r1_searcher.inference.policies import PlayedModel
from r1_searcher.inference.sources import NoRetriever, SearchSources

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What a selection reaches out to; a test gives its own."""

    model: Callable[[argparse.Namespace], PlayedModel] = model_of
    """The model that the flags name."""
    services: Callable[[argparse.Namespace, Contestant], SearchSources] = sources_of
    """The search services that the flags name, for the recipe with search."""
    console: Callable[[Path], AbstractContextManager[TextIO]] = console_apart
    """Sends what libraries print to a file; gives the console."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, a dead service or a full disk status 3."""
    log_to_stderr()
    return run_command("data_prep.select", lambda: select(argv), resumable=True)


def select(argv: Sequence[str] | None, surroundings: Surroundings | None = None) -> None:
    """Make the selection that the flags describe.

    Raises:
        InputError: flags, files or a folder that cannot work, or a manifest that does not fit.
        RunAborted: a dead service, a full disk, or sets that differ from a manifest's.
    """
    options, manifest = flags.parse(argv, __doc__)
    job = flags.job_of(options)
    folder = SelectionFolder(options.out.resolve())
    with folder.held():
        _select(options, manifest, job, folder, surroundings or Surroundings())


def _select(
    options: argparse.Namespace,
    manifest: Mapping[str, Any] | None,
    job: Job,
    folder: SelectionFolder,
    surroundings: Surroundings,
) -> None:
    inputs = flags.inputs_of(options.data)
    if manifest is not None:
        check_equal(_hashes(manifest["inputs"]), _hashes(inputs), "--data is not the manifest's", "give those files")
        folder.take_rollouts_of(SelectionFolder(options.from_manifest.resolve().parent), manifest["rollouts_sha256"])
    settings, log = _play(options, job, folder, manifest, surroundings)
    classed = class_questions(job.rows, log, job.closed_book, job.search, job.bounds, job.keep_known)
    selection = Selection(classed, draw_question_sets(job.plan, classed, options.seed))
    plan = {stage: [str(quota) for quota in quotas] for stage, quotas in job.plan.items()}
    facts = {"options": flags.recorded(options), "inputs": inputs, "settings": settings, "plan": plan}
    facts["seeds"] = seeds_of(job.decoding, (job.closed_book, job.search))
    written = selection.write(folder, facts)
    if manifest is not None:
        check_rebuilt(manifest, written)
        logger.info("the sets are those of %s", options.from_manifest)
    _report(written, folder)


def _hashes(inputs: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {"sha256": [each["sha256"] for each in inputs]}


def _play(
    options: argparse.Namespace,
    job: Job,
    folder: SelectionFolder,
    manifest: Mapping[str, Any] | None,
    surroundings: Surroundings,
) -> tuple[dict[str, Any], RolloutLog]:
    """Play what is missing; the settings that the rollouts were played under, and all of them.

    Where a manifest's rollouts are there, neither the model nor the search service is needed.
    """
    if manifest is not None and folder.rollouts_file.is_file():
        log = RolloutLog(folder.rollouts_file, job.criterion)
        log.close()  # it is read only
        if not _missing(job, log):
            return read_json(folder.settings_file), log
    if manifest is not None and not options.model_is_named:
        raise InputError(
            f"there are no rollouts beside the manifest, and its model {options.model!r} would be loaded; to play "
            "again, name the model on the command line: --model (and --tokenizer)"
        )
    model, services = surroundings.model(options), surroundings.services(options, job.search.contestant)
    model.check()
    settings = _settings(job, model, services)
    if manifest is not None:
        check_equal(manifest["settings"], settings, "this would not be the manifest's selection", "give what it had")
    folder.claim(settings)
    log = RolloutLog(folder.rollouts_file, job.criterion)
    try:
        if _missing(job, log):
            with surroundings.console(folder.log_file) as console:
                asyncio.run(_roll(job, model, services, log, concurrency_of(options), console))
    finally:
        log.close()
    return settings, log


def _settings(job: Job, model: PlayedModel, services: SearchSources) -> dict[str, Any]:
    """What the rollouts are of; equal settings continue them."""
    facts = {job.closed_book.name: None, job.search.name: services.facts()}
    played = {
        phase.name: settings_of(phase.contestant, model, job.rows, [job.decoding], facts[phase.name])
        for phase in (job.closed_book, job.search)
    }
    return {**played, "metric": job.criterion.metric}


def _missing(job: Job, log: RolloutLog) -> bool:
    """Whether there is something to play."""
    return bool(log.open_questions(job.closed_book, job.rows) or log.open_questions(job.search, _searched(job, log)))


def _searched(job: Job, log: RolloutLog) -> list[QARow]:
    """The questions that are asked with search: all, or those that nobody knew without."""
    if job.keep_known:
        return job.rows
    return [row for row in job.rows if not log.tries(job.closed_book, row).right]


async def _roll(
    job: Job, model: PlayedModel, services: SearchSources, log: RolloutLog, concurrency: int, console: TextIO
) -> None:
    """Start what gives the policy, and play both phases with it."""
    tokenizer = model.load_tokenizer()
    longest = max((job.closed_book, job.search), key=lambda phase: phase.contestant.recipe.limits.max_length)
    retriever, tools = services.open()

    def environment(phase: RolloutPlan) -> Environment:
        recipe = phase.contestant.recipe
        searches = phase.contestant.searches
        return Environment(recipe.protocol, recipe.limits, retriever if searches else NoRetriever(), tokenizer, tools)

    try:
        async with model.policies(longest.contestant.recipe, job.rows[0], tokenizer, console) as source:
            roller = Roller(log, source, job.decoding, concurrency, console)
            await roller.roll(job.closed_book, job.rows, environment(job.closed_book))
            await roller.roll(job.search, _searched(job, log), environment(job.search))
    finally:
        for each in (retriever, *tools.values()):
            await each.close()


def _report(manifest: Mapping[str, Any], folder: SelectionFolder) -> None:
    for source, counts in manifest["counts"].items():
        logger.info("%s: %s", source or "questions", ", ".join(f"{count} {name}" for name, count in counts.items()))
    for stage, facts in manifest["stages"].items():
        logger.info("%s: %d questions in %s", stage, facts["questions"], folder.path / f"{stage}.jsonl")
        for quota, taken in facts["taken"].items():
            if not quota.endswith(("=all", f"={taken}")):
                logger.warning("%s: only %d for the quota %s", stage, taken, quota)


if __name__ == "__main__":
    sys.exit(main())
