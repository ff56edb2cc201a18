"""Everything that can be checked before Ray starts.  Each problem is one ``InputError``; nothing is written here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import InputError
from r1_searcher.host.command import Command
from r1_searcher.host.device import Device
from r1_searcher.prompting import render_prompt
from r1_searcher.question import QARow
from r1_searcher.recipe import Recipe
from r1_searcher.tokenization import HFTokenizer
from retriever.client import HttpRetriever
from retriever.errors import RetrieverError
from retriever.passage import SearchRequest


def check_model_path(name: str | None) -> None:
    """A model must be named; a local path must hold one.  Names of the hub are left to the hub."""
    if not name:
        raise InputError("no model given; pass --actor.model_name_or_path MODEL")
    looks_local = name.startswith((".", "/", "~")) or name.count("/") != 1
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"model path {name} holds no config.json; expected a Hugging Face model folder")
    elif path.exists() or looks_local:
        raise InputError(f"model path not found: {name} (expected a Hugging Face model folder or a hub name org/model)")


def load_tokenizer(name: str) -> HFTokenizer:
    """The model's tokenizer, from a folder or the hub."""
    from transformers import AutoTokenizer

    try:
        return HFTokenizer(AutoTokenizer.from_pretrained(name, trust_remote_code=True))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load a tokenizer for model {name}: {str(error).splitlines()[0]}") from error


def check_batches(command: Command, rows: Sequence[QARow]) -> None:
    """The questions must fill at least one batch, and the optimiser's batch must divide a rollout's episodes."""
    batch, samples = command.number("rollout.batch_size"), command.number("rollout.n_samples_per_prompt")
    if len(rows) < batch:
        raise InputError(f"{len(rows)} questions do not fill one batch of {batch} (--rollout.batch_size)")
    episodes, train_batch = batch * samples, command.number("train.batch_size")
    if episodes % train_batch:
        raise InputError(
            f"one rollout has {batch} x {samples} = {episodes} episodes, which --train.batch_size {train_batch} does "
            "not divide; the remainder would never be trained on"
        )


def check_prompt_lengths(recipe: Recipe, rows: Sequence[QARow], tokenizer: HFTokenizer) -> None:
    """Every prompt must leave room for one turn."""
    limits = recipe.limits
    for row in rows:
        length = len(tokenizer.encode(render_prompt(recipe.protocol_spec, row, tokenizer)))
        if length + limits.answer_tokens > limits.max_length:
            raise InputError(
                f"the prompt of question {row.id!r} has {length} tokens, which leaves less than {limits.answer_tokens} "
                f"of the maximum length {limits.max_length}; raise --data.max_len or drop the question"
            )


def check_gpus(command: Command, device: Device, devices: int, *, cluster: bool) -> None:
    """A machine on its own must have the GPUs that the placement asks for."""
    if device is Device.CUDA and not cluster and command.gpus > devices:
        raise InputError(
            f"the flags ask for {command.gpus} GPUs and this machine has {devices}; lower --actor.num_gpus_per_node "
            "or --vllm.num_engines, or join a cluster (train_scripts/ray_start.sh, then RAY_ADDRESS=auto)"
        )


def check_retriever(url: str, *, timeout: float = 5.0) -> None:
    """The search service must answer one search within ``timeout`` seconds."""

    async def probe() -> None:
        client = HttpRetriever(url, connect_timeout=timeout, read_timeout=timeout, attempts=1, deadline=timeout)
        try:
            await client.search(SearchRequest(query="test", top_k=1))
        finally:
            await client.close()

    try:
        asyncio.run(probe())
    except (RetrieverError, ValueError) as error:
        raise InputError(f"the retriever does not answer: {error}") from error


def check_reward_url(url: str) -> None:
    """A reward file must exist; a server is asked for its health."""
    if url.endswith(".py"):
        if not Path(url).is_file():
            raise InputError(f"reward function file not found: {url}")
        return
    import urllib.error
    import urllib.request
    from urllib.parse import urlsplit, urlunsplit

    parts: Any = urlsplit(url)
    health = urlunsplit((parts.scheme, parts.netloc, "/health", "", ""))
    try:
        with urllib.request.urlopen(health, timeout=5.0):
            pass
    except (OSError, ValueError) as error:
        raise InputError(f"the reward server does not answer: GET {health}: {error}") from error
