"""What a run needs of Ray, checked before the host asks for it: the host waits forever, without a message.

A node that sees another run folder, or runs other code, ends a run late: its engine dies alone, and the others wait ten
minutes for it. So each node is asked once, before anything of the run is there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import ipaddress
import logging
import os
import platform
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.files import file_sha256
from foundation.http import describe
from r1_searcher.run.run_config import RunConfig

ANSWER_S = 20.0
"""Longest time that a node may take to start a process and look."""
_SEEN_S = 5.0
"""How long a node waits for a new file, which network file systems show late."""
_PACKAGES = ("foundation", "retriever", "r1_searcher")
_LIBRARIES = ("openrlhf", "ray", "vllm", "deepspeed", "torch", "transformers")
_TOKEN_FILE = "~/.ray/auth_token"
_HOST = re.compile(r"://(?:[^/?#@|,]*@)?(\[[^\]]*\]|[^/?#:|,]*)")


@dataclass(frozen=True)
class View:
    """What one node sees."""

    code: str
    """Fingerprint of this project's modules."""
    versions: Mapping[str, str]
    """Of Python and of the libraries that all processes of a run must share."""
    files: Mapping[str, str]
    """Path -> fingerprint; empty where there is no such file."""


def view(files: Sequence[str], patience_s: float = 0.0) -> View:
    """What this machine sees; a file that is missing is waited for."""
    give_up_at = time.monotonic() + patience_s
    while time.monotonic() < give_up_at and not all(map(os.path.isfile, files)):
        time.sleep(0.2)
    return View(_code(), _versions(), {file: _digest(Path(file)) for file in files})


def use_token() -> None:
    """Turn Ray's token authentication on, unless the user has turned it off: a head runs programs for all who reach it.

    A run on one machine has a token of its own, which its processes inherit. A cluster is joined with this user's
    token, where there is one, as `ray_start.sh` leaves it; a cluster without authentication takes it, too. Call this
    before Ray is imported, which reads the variable once.
    """
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if not os.environ.get("RAY_ADDRESS"):
        if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and not has_token:
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif has_token or os.path.isfile(os.path.expanduser(_TOKEN_FILE)):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def check_cluster(run: RunConfig, config_file: str, gpus: int) -> None:
    """Refuse a cluster that the run cannot work on: too small, or with a node that cannot take part.

    Connects on its own, without the run's environment, so that a node can say what it lacks.

    Raises:
        InputError: the first thing that is wrong.
    """
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        reason = describe(error)
        raise InputError(f"cannot join the Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}: {reason}") from error
    try:
        check_resources(ray.cluster_resources(), gpus)
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if len(nodes) > 1:
            check_addresses(run)
        files = [config_file, *filter(os.path.isfile, (*run.plugins, run.reward_url))]
        check_views(view(files), _ask(nodes, files))
    finally:
        ray.shutdown()


def check_resources(found: Mapping[str, float], gpus: int) -> None:
    """Refuse fewer GPUs or processors than the run's actors wait for: one of each per GPU, a processor for the trainer.

    Raises:
        InputError: what is there and what is asked for.
    """
    has_gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
    if has_gpus < gpus:
        raise InputError(
            f"the flags ask for {gpus} GPUs and Ray has {has_gpus}; lower --actor.num_gpus_per_node or "
            "--vllm.num_engines, or add machines (train_scripts/ray_start.sh worker)"
        )
    if cpus < gpus + 1:
        raise InputError(
            f"a run on {gpus} GPUs needs {gpus + 1} processors and Ray has {cpus} (a container's quota counts); "
            "raise the quota, or give ray start --num-cpus"
        )


def check_addresses(run: RunConfig) -> None:
    """Refuse addresses that mean another machine on each node. Raises `InputError`."""
    judge = run.judge.url if run.judge is not None else ""
    given = {"--search": run.retriever.source, "--browse": run.retriever.browse, "--reward-url": run.reward_url}
    for flag, address in {**given, "--judge-url": judge}.items():
        for host in _HOST.findall(address):
            if _is_loopback(host):
                raise InputError(
                    f"{flag} names {host}, which is another machine on each node of the cluster; start the service "
                    "with --host 0.0.0.0 and give the address that the other machines reach it by"
                )


def check_views(here: View, there: Mapping[str, View | str]) -> None:
    """Refuse nodes that differ from this machine.

    Args:
        here: what this machine sees.
        there: node -> what it sees, or why it could not say.

    Raises:
        InputError: the first difference, with both sides.
    """
    for node, seen in there.items():
        if isinstance(seen, str):
            raise InputError(f"node {node} cannot take part: {seen}; set the project up at the same path there")
        for file, digest in here.files.items():
            if seen.files[file] != digest:
                what = "sees another" if seen.files[file] else "does not see"
                raise InputError(f"node {node} {what} {file}; put it on a file system that all machines share")
        if seen.code != here.code:
            raise InputError(
                f"node {node} runs other code than this machine (fingerprint {seen.code}, here {here.code}); "
                "bring the project to the same commit there, and restart its Ray"
            )
        for name, version in here.versions.items():
            if seen.versions[name] != version:
                raise InputError(
                    f"node {node} has {name} {seen.versions[name] or '(none)'}, this machine {version}; run "
                    "bash train_scripts/setup.sh there"
                )


def _ask(nodes: Mapping[str, str], files: Sequence[str]) -> dict[str, View | str]:
    """The view of every node, or why there is none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(view)
    asked = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[node] = look.options(scheduling_strategy=place).remote(files, _SEEN_S)
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    return {f"{nodes[node]} ({node[:8]})": _answer(answer) for node, answer in asked.items()}


def _answer(answer: Any) -> View | str:
    import ray

    try:
        found: View = ray.get(answer, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return f"it has started no process within {ANSWER_S:.0f} s"
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return lines[-1].strip() if lines else type(error).__name__
    return found


def _code() -> str:
    """Fingerprint of the project's files that processes of a run import or read."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(root).rglob("*")):
                if file.suffix in (".py", ".txt", ".toml"):
                    digest.update(f"{package}/{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _digest(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError:
        return ""


def _is_loopback(host: str) -> bool:
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
