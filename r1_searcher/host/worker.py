"""What a process of a run gets beside its own work: the environment, and on a cluster the keys.

On one machine every process inherits the environment of the command. Workers that Ray starts on a cluster have the
environment of their `ray start` instead. What is no secret goes to them in Ray's runtime environment (`passed_on`),
which Ray writes to logs that everybody can read; keys and tokens go in a file of the run folder that only the user can
read and that is there only while the run lasts (`shared_keys`).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from foundation.errors import InputError
from foundation.files import write_json
from foundation.secrets import CONSENT_VARIABLE, CREDENTIALS_VARIABLE, KEYS_VARIABLE, is_secret
from r1_searcher.host import cpu
from r1_searcher.host.patches import (
    action_logits,
    document_correction,
    empty_masks,
    engine_slots,
    host_patch,
    single_forward,
    tokenizer_by_name,
    whole_rollouts,
)

PATCHES = (
    *whole_rollouts.PATCHES,
    *empty_masks.PATCHES,
    *engine_slots.PATCHES,
    *tokenizer_by_name.PATCHES,
    *action_logits.PATCHES,
    *single_forward.PATCHES,
    *document_correction.PATCHES,
)
"""Changes to the host's modules on every machine; those for machines without CUDA are `cpu.PATCHES`."""
HOOK = "r1_searcher.host.worker.prepare"
"""Name of `prepare`, which Ray calls in every worker of a run before anything else."""
PASSED_ON = (
    *("WANDB_", "HF_", "RETRIEVER_", "REWARD_", "MILVUS_", "OPENAI_", "SERPER_", "SERPAPI_", "TAVILY_", "WIKIPEDIA_"),
    *("NCCL_", "GLOO_", "UCX", "CUDA_HOME", "LD_LIBRARY_PATH", "VLLM_", "PYTORCH_", "TORCH_EXTENSIONS_DIR"),
    *(CONSENT_VARIABLE, "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""How the names of variables begin that workers on other machines need: keys, addresses, networks, libraries."""
_OF_ONE_MACHINE = frozenset({"VLLM_HOST_IP", "VLLM_PORT", "NCCL_HOSTID"})
_KEY_VARIABLE = re.compile(r"[?&](?:key_variable|env)=([^&|]+)")
"""How a search source names the variables with its keys; `env` of `mcp:` may name several."""


def prepare() -> None:
    """Make this process one of the run: its keys, and the changes to the host's modules; imports none of them."""
    end_without_a_look_for_garbage()
    take_keys()
    cpu.install()
    host_patch.install(PATCHES)


def end_without_a_look_for_garbage() -> None:
    """Spare this process the last one, among all that torch, DeepSpeed and vLLM have made: two seconds of a core."""
    atexit.register(gc.freeze)


def named_keys(sources: Iterable[str], further: Iterable[str] = ()) -> frozenset[str]:
    """The variables that the user has named as keys, whatever their names look like.

    Args:
        sources: search sources of the run, which may name variables with keys of their own.
        further: other such variables, as the judge's; empty: none.
    """
    in_sources = ",".join(found for source in sources for found in _KEY_VARIABLE.findall(source))
    return frozenset(filter(None, (*further, *in_sources.split(","))))


def passed_on(keys: Collection[str]) -> dict[str, str]:
    """Variables of this process that workers on a cluster need and everybody may read: none of the named `keys`."""
    found = _wanted(("PATH",)).items()
    return {name: value for name, value in found if name not in keys and not is_secret(name, value)}


@contextlib.contextmanager
def shared_keys(file: Path, sources: Iterable[str], further: Iterable[str] = ()) -> Iterator[None]:
    """Keeps the keys in a file for the workers of a cluster; without `RAY_ADDRESS` there is no file.

    Args:
        file: on a file system that all machines share.
        sources: see `named_keys`.
        further: see `named_keys`.
    """
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    named = named_keys(sources, further)
    keys = {name: value for name, value in _wanted(named).items() if name in named or is_secret(name, value)}
    write_json(file, keys, private=True)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def take_keys() -> None:
    """Put the keys of the run's file into this process's environment; without a file it has inherited them.

    Raises:
        InputError: the file is another user's, or damaged.
    """
    file = Path(os.environ.get(KEYS_VARIABLE, ""))
    if not file.is_file():
        return
    try:
        os.environ.update(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the keys of this run from {file}: {error}; is it another user's?") from error


def _wanted(named: Iterable[str]) -> dict[str, str]:
    """The variables of this process that begin as `PASSED_ON` says, or that are named."""
    wanted = {CREDENTIALS_VARIABLE, *named}
    found = {name: value for name, value in os.environ.items() if name in wanted or name.startswith(PASSED_ON)}
    return {name: value for name, value in found.items() if name not in _OF_ONE_MACHINE}
