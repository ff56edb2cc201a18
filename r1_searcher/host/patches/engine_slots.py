"""How many episodes a rollout engine plays at the same time.

vLLM has defaults for its offline class and for its server, and none for an engine that is built as OpenRLHF builds it
(`UsageContext.ENGINE_CONTEXT`, `EngineArgs.get_batch_defaults`): 128 sequences and 2,048 tokens at a time, whatever the
GPU. OpenRLHF has no flag for it. 1,024 episodes of one engine are then eight waves, while the KV cache has room for
most of them at once. Engines of a run get as many sequences as they have episodes in a step, and the tokens of the
offline class; where the cache is full, vLLM lets the rest wait.
"""

from __future__ import annotations

from types import ModuleType

from r1_searcher.host.patches.host_patch import HostPatch


def _patch_engine_args(module: ModuleType) -> None:
    from vllm.usage.usage_lib import UsageContext

    from r1_searcher.run.run_config import RunConfig

    defaults = module.EngineArgs.get_batch_defaults

    def get_batch_defaults(
        world_size: int,
    ) -> tuple[dict[UsageContext | None, int], dict[UsageContext | None, int]]:
        tokens, sequences = defaults(world_size)
        engine = UsageContext.ENGINE_CONTEXT
        tokens = {**tokens, engine: tokens[UsageContext.LLM_CLASS]}
        return tokens, {**sequences, engine: RunConfig.of_this_process().engine_slots}

    module.EngineArgs.get_batch_defaults = staticmethod(get_batch_defaults)


PATCHES = (HostPatch("vllm.engine.arg_utils", "SchedulerConfig.DEFAULT_MAX_NUM_SEQS,", _patch_engine_args),)
