"""OpenRLHF's driver process: starts or joins Ray, then runs OpenRLHF's own command-line module.

`python -m r1_searcher.host.driver PARENT_PID RUN_JSON DEVICE GPUS FLAGS…`, started by the supervisor.
"""

from __future__ import annotations

import os
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.cli import run_command
from foundation.errors import InputError, R1SearcherError
from foundation.process import stop_with_parent
from foundation.secrets import KEYS_VARIABLE
from r1_searcher.host import cluster, cpu, extension_builds, progress_actor, worker
from r1_searcher.host.device import Device, threads_for, worker_environment
from r1_searcher.host.flags import TRAINER_MODULE, parse_flags
from r1_searcher.run.reward_batch import PLUGINS_VARIABLE, PROTOCOL_VARIABLE, REWARD_VARIABLE
from r1_searcher.run.run_config import RUN_VARIABLE, RunConfig
from r1_searcher.run.run_folder import RunFolder

OWN_RAY = {"RAY_prestart_worker_first_driver": "0", "RAY_enable_metrics_collection": "0"}
"""Settings of a Ray that serves one run on one machine (Ray's src/ray/common/ray_config_def.h).

Ray starts a worker per core ahead of the first driver, and lets the driver wait for them (`worker_pool.cc`). They have
no part in a run, whose workers have an environment of their own. Metrics would go to the dashboard, which is left out.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run OpenRLHF; its output is this process's output, and the supervisor reads the status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command("r1_searcher.train", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> None:
    if len(arguments) < 4:
        raise InputError(f"the driver takes PARENT_PID RUN_JSON DEVICE GPUS FLAGS…, found {shlex.join(arguments)!r}")
    parent, config, device, gpus, *flags = arguments
    stop_with_parent(int(parent))
    run = RunConfig.read(config)
    recipe = run.recipe
    environment = worker_environment(Device(device), _threads(flags)) | {
        RUN_VARIABLE: config,
        KEYS_VARIABLE: str(RunFolder(Path(run.run_dir)).keys_file),
        REWARD_VARIABLE: recipe.reward.name,  # for r1_searcher.reward_func, where the rewards come from it
        PROTOCOL_VARIABLE: recipe.protocol.name,
        PLUGINS_VARIABLE: os.pathsep.join(run.plugins),
    }
    os.environ.update(environment)
    extension_builds.prepare()
    cluster.use_token()
    if os.environ.get("RAY_ADDRESS"):
        cluster.check_cluster(run, config, int(gpus))
    else:
        for name, value in OWN_RAY.items():  # before Ray is imported, which reads them once
            os.environ.setdefault(name, value)
    worker.end_without_a_look_for_garbage()
    cpu.install()
    _try_executor()
    try:
        start_ray(environment, Device(device), int(gpus), keys_of(run))
        progress = progress_actor.start(run)  # lives as long as this name
        sys.argv = [TRAINER_MODULE, *flags]
        runpy.run_module(TRAINER_MODULE, run_name="__main__", alter_sys=True)
        del progress
    except Exception as error:
        expected = expected_error(error)
        if expected is None:
            raise
        raise expected from None


def _threads(flags: Sequence[str]) -> int:
    """Threads of each process, by OpenRLHF's flags."""
    parsed = vars(parse_flags(flags))
    return threads_for(str(parsed["actor.model_name_or_path"]), at_once=2 if parsed["train.async_enable"] else 1)


def _try_executor() -> None:
    """Build the executor once here, where an error ends the run at once.

    An engine whose executor cannot be built dies alone, and the host waits ten minutes for it to join the group that
    sends the weights.
    """
    from r1_searcher.host.agent import AgentExecutor

    AgentExecutor()


def keys_of(run: RunConfig) -> frozenset[str]:
    """The variables that a run names as keys: its search sources', and its judge's."""
    judge = [run.judge.key_variable] if run.judge else []
    return worker.named_keys((run.retriever.source, run.retriever.browse), judge)


def start_ray(environment: dict[str, str], device: Device, gpus: int, keys: frozenset[str]) -> None:
    """Start Ray on this machine, or join the cluster that `RAY_ADDRESS` names."""
    import ray

    ray.init(**ray_options(environment, device, gpus, keys))
    cluster.check_resources(ray.cluster_resources(), gpus)


def ray_options(
    environment: dict[str, str], device: Device, gpus: int, keys: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Arguments of `ray.init`; without an address it would join any cluster that was left on the machine.

    Args:
        environment: what the workers get beside the user's variables.
        device: of the run.
        gpus: logical ones without CUDA.
        keys: variables that are keys by the user's word; a cluster's runtime environment must hold none of them.
    """
    env_vars = {**environment, "NCCL_DEBUG": os.environ.get("NCCL_DEBUG", "WARN")}
    runtime_env = {"env_vars": env_vars, "worker_process_setup_hook": worker.HOOK}
    if os.environ.get("RAY_ADDRESS"):
        # Workers that Ray starts on other machines do not inherit the user's environment.
        return {"runtime_env": {**runtime_env, "env_vars": {**worker.passed_on(keys), **env_vars}}}
    here = {"runtime_env": runtime_env, "include_dashboard": False, "address": "local"}
    if device is Device.CPU:
        # Logical resources: the host asks for one GPU per actor, Ray only counts them.
        return {**here, "num_gpus": gpus, "num_cpus": max(os.cpu_count() or 1, 2 * gpus + 2)}
    return here


def expected_error(error: BaseException | None) -> R1SearcherError | None:
    """The expected error that a Ray actor raised, however deep it is wrapped.

    Ray's wrapper is an instance of the error that it wraps, with the remote traceback as its message: the
    innermost one is the error itself.
    """
    found = None
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, R1SearcherError):
            found = error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return found


if __name__ == "__main__":
    sys.exit(main())
