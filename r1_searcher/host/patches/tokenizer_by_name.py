"""Tokenizers travel by their name from the process that hands out the prompts to the engines.

OpenRLHF passes the tokenizer with every prompt (`SamplesGenerator._dispatch_prompts_to_vllm`), and Ray pickles it each
time: with a vocabulary of 150,000 entries 8 MB a prompt, which one process writes, and which the engines read while
they should play (`benchmarks/tokenizer_dispatch.py`). Here it is pickled as the name of its model, from which an engine
loads it once, in OpenRLHF's own way.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any

from r1_searcher.host.patches.host_patch import HostPatch


def travel_by_name(tokenizer: Any) -> None:
    """From now on, this process pickles tokenizers of this type as the name that they were loaded by."""
    if tokenizer.name_or_path:
        copyreg.pickle(type(tokenizer), _by_name)


def _by_name(tokenizer: Any) -> tuple[Callable[..., Any], tuple[str, str, bool]]:
    return tokenizer_named, (tokenizer.name_or_path, tokenizer.padding_side, bool(tokenizer.is_fast))


@cache
def tokenizer_named(name: str, padding_side: str, use_fast: bool) -> Any:
    """The tokenizer as OpenRLHF loads it, one for this process."""
    from openrlhf.utils.utils import get_tokenizer

    return get_tokenizer(name, None, padding_side, use_fast=use_fast)


def _patch_samples_generator(module: ModuleType) -> None:
    build = module.SamplesGenerator.__init__

    @wraps(build)
    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        travel_by_name(self.tokenizer)

    module.SamplesGenerator.__init__ = __init__


PATCHES = (
    HostPatch("openrlhf.trainer.ppo_utils.samples_generator", "hf_tokenizer=self.tokenizer", _patch_samples_generator),
)
