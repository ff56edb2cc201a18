"""Everything that can be checked before Ray starts. Each problem is one `InputError`; nothing is written here.

What may be meant only warns (`warn_of_another_corpus`).
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from foundation.chat.endpoint import OpenAIEndpoint
from foundation.errors import InputError, OutsideFailure
from foundation.http import display_url, probe
from foundation.retry import RetryPolicy
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.host.command import Command
from r1_searcher.host.device import Device
from r1_searcher.host.model_folder import shape_of
from r1_searcher.inspection.checks import PROMPT_CHECKS, examine
from r1_searcher.inspection.finding import Finding, Level
from r1_searcher.inspection.subject import Subject, load_subject
from r1_searcher.memory.fit import Cards, fit
from r1_searcher.memory.layout import Layout
from r1_searcher.memory.report import verdict
from r1_searcher.memory.storage import disk_space
from r1_searcher.recipe.recipe import Recipe
from r1_searcher.reward.judge import Case, Verdict, verdict_of
from r1_searcher.run.run_config import JudgeConfig
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.scorers import is_reward_server
from retriever.errors import RetrieverError
from retriever.passage import SearchRequest
from retriever.sources import is_address, open_retriever

logger = logging.getLogger(__name__)


def check_model(recipe: Recipe, model: str, rows: Sequence[QARow], *, trust_remote_code: bool = False) -> None:
    """Refuse what the doctor fails in model, tokenizer, template or prompts; its warnings are logged."""
    _refuse_failures(examine(load_subject(recipe, model, rows=rows, trust_remote_code=trust_remote_code)))


def check_prompts(recipe: Recipe, tokenizer: HFTokenizer, rows: Sequence[QARow]) -> None:
    """Prompts alone: of a model that is served elsewhere, only the tokenizer is at hand."""
    subject = Subject(recipe, "", tokenizer, config={}, generation_config={}, rows=tuple(rows))
    _refuse_failures(examine(subject, PROMPT_CHECKS))


def _refuse_failures(findings: Iterable[tuple[str, Finding]]) -> None:
    for name, finding in findings:
        said = " ".join(f"{finding.text} -> {finding.advice}".split())
        if finding.level is Level.FAILED:
            raise InputError(f"{name}: {said} (python -m r1_searcher.doctor shows every check)")
        if finding.level is Level.WARNING:
            logger.warning("%s: %s", name, said)


def check_gpus(command: Command, device: Device, devices: int, *, cluster: bool) -> None:
    """A machine on its own must have the GPUs that the placement asks for."""
    if device is Device.CUDA and not cluster and not devices:
        raise InputError("this machine has no GPU that torch can use; leave out --device, or take --preset tiny")
    if device is Device.CUDA and not cluster and command.gpus > devices:
        raise InputError(
            f"the flags ask for {command.gpus} GPUs and this machine has {devices}; lower --actor.num_gpus_per_node "
            "or --vllm.num_engines, or join a cluster (train_scripts/ray_start.sh, then RAY_ADDRESS=auto)"
        )


def check_memory(command: Command, model: str, cards: Cards) -> None:
    """What cannot fit on these GPUs is refused, with the flags that would make it fit; a tight fit is logged.

    A model of a kind that cannot be planned may train: it is logged that its memory is unknown.
    """
    layout = Layout(vars(command.flags))
    critic = str(layout.flags["critic.model_name_or_path"] or model)
    enough = Cards(max(cards.count, command.gpus), cards.bytes_each)  # how many there are is `check_gpus`'s question
    try:
        planned = fit(shape_of(model), layout, enough, shape_of(critic))
    except InputError as error:
        logger.warning("memory is not planned: %s", error)
        return
    if not planned.fits:
        raise InputError(f"the run {verdict(planned)} (python -m r1_searcher.doctor --gpus plans it phase by phase)")
    logger.log(logging.INFO if planned.has_reserve else logging.WARNING, "memory %s", verdict(planned))


def check_disk(command: Command, model: str, run_dir: Path) -> None:
    """The disk of the run's folder must have room for its checkpoints and its model; the figures are logged.

    What an earlier attempt has written already counts as room. A model of unknown sizes is not planned.
    """
    layout = Layout(vars(command.flags))
    try:
        needed = disk_space(shape_of(model), shape_of(str(layout.flags["critic.model_name_or_path"] or model)), layout)
    except InputError as error:
        logger.warning("the disk that the run needs is not known: %s", error)
        return
    folder = RunFolder(run_dir.resolve())
    there = sum(file.stat().st_size for file in folder.checkpoints.rglob("*") if file.is_file())
    free = shutil.disk_usage(next(path for path in (folder.path, *folder.path.parents) if path.is_dir())).free
    figures = (
        f"{needed.total / 1e9:.3g} GB of disk: {needed.kept} checkpoints of {needed.checkpoint / 1e9:.3g} GB while one "
        f"is written (--ckpt.max_num), models of {needed.model / 1e9:.3g} GB, and the logs"
    )
    if needed.total > free + there:
        raise InputError(
            f"the run needs {figures}; {folder.path} has {(free + there) / 1e9:.3g} GB; lower --ckpt.max_num, leave "
            "out --ckpt.save_hf, or give a --run-dir on another disk"
        )
    logger.info("the run takes %s; %.3g GB are free", figures, free / 1e9)


def check_retriever(source: str, *, timeout: float = 5.0) -> str:
    """The source must be well, and a search service over HTTP must answer one search, within `timeout` seconds.

    Other sources are asked for their health only: a search of theirs may cost money. Gives what the service says
    its corpus is (`Health.corpus`).
    """

    async def probe() -> str:
        retriever = open_retriever(source, read_timeout=timeout, retry=RetryPolicy(1, deadline=timeout))
        try:
            if not is_address(source):
                return (await retriever.health()).corpus
            await retriever.search(SearchRequest(query="test", top_k=1))
            with contextlib.suppress(RetrieverError):  # it answers searches, and need not say more
                return (await retriever.health()).corpus
            return ""
        finally:
            await retriever.close()

    try:
        return asyncio.run(probe())
    except (RetrieverError, ValueError) as error:
        raise InputError(f"the retriever does not answer: {error}") from error


def warn_of_another_corpus(folder: RunFolder, corpus: str) -> None:
    """Say where a run that is resumed searched other passages before. The address says nothing: it may have moved.

    Args:
        folder: of the run.
        corpus: as `check_retriever` gives it.
    """
    before = folder.corpus_of_last_attempt
    if folder.last_step and corpus and before and corpus != before:
        logger.warning(
            "%s searched another corpus until step %d (sha256 %.12s, now %.12s): what it learns is of both",
            folder.path, folder.last_step, before, corpus,
        )  # fmt: skip


def check_reward_url(url: str) -> None:
    """A reward file must exist; a server is asked for its health."""
    if not is_reward_server(url):
        _check_reward_file(Path(url))
        return
    try:
        parts = urlsplit(url)
        health = urlunsplit((parts.scheme, parts.netloc, "/health", "", ""))
        status = probe(health, 5.0)
    except (OutsideFailure, ValueError) as error:
        raise InputError(f"the reward server {display_url(url)} does not answer: {error}") from error
    if status >= 500:
        raise InputError(f"the reward server is not healthy: GET {display_url(health)} answers {status}")


def _check_reward_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"reward function file not found: {path}")
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise InputError(f"reward function file {path} is not Python: {error}") from error
    if not any(isinstance(node, ast.FunctionDef) and node.name == "reward_func" for node in module.body):
        raise InputError(f"{path} defines no reward_func(queries, prompts, labels)")


def check_judge(judge: JudgeConfig) -> None:
    """The judge must say of one plain case whether it is right."""

    async def ask() -> Verdict:
        endpoint = OpenAIEndpoint(replace(judge.endpoint, retry=RetryPolicy(2)))
        try:
            return await verdict_of(endpoint, Case("What is the capital of France?", ("Paris",), "Paris"))
        finally:
            await endpoint.close()

    verdict = asyncio.run(ask())
    if verdict.unjudged is not None:
        said = f"it said {verdict.reply[:200]!r}, expected True or False" if verdict.is_said else verdict.reply
        raise InputError(
            f"the judge cannot be used: {said}; check --judge-url, --judge-model and its key (--judge-key-variable)"
        )
