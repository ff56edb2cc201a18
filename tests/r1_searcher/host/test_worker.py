"""How variables and keys reach the workers of a run, on one machine and on a cluster."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import stat
from pathlib import Path

import pytest

from foundation.errors import InputError
from foundation.secrets import CREDENTIALS_VARIABLE, KEYS_VARIABLE
from r1_searcher.host import worker
from r1_searcher.host.device import Device, worker_environment
from r1_searcher.host.driver import keys_of, ray_options
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.run_config import JudgeConfig, RetrieverConfig, RunConfig

SECRETS = {
    "WANDB_API_KEY": "canary-1",
    "HF_TOKEN": "canary-2",
    "OPENAI_API_KEY": "canary-3",
    "RETRIEVER_TOKEN": "canary-4",
    "MILVUS_TOKEN": "canary-5",
    "HTTPS_PROXY": "http://me:canary-6@proxy:1",
    CREDENTIALS_VARIABLE: '{"h:1": "me:canary-7"}',
    "MY_SIMULATOR": "canary-8",
    "MY_SEARCH": "canary-10",
    "MY_OTHER_SEARCH": "canary-11",
    "OPENAI_JUDGE": "canary-12",
    "OPENAI_READER": "canary-13",
    "OPENAI_API_KEYS": "canary-14",
}
OPEN = {
    "WANDB_MODE": "offline",
    "NCCL_SOCKET_IFNAME": "eth1",
    "GLOO_SOCKET_IFNAME": "eth1",
    "UCX_NET_DEVICES": "mlx5_0",
    "CUDA_HOME": "/opt/cuda",
    "LD_LIBRARY_PATH": "/opt/lib",
    "NO_PROXY": "10.0.0.0/8",
    "VLLM_LOGGING_LEVEL": "DEBUG",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "PATH": "/env/bin:/usr/bin",
    "R1_SEARCHER_KEYS_OVER_HTTP": "1",
}
NOT_PASSED_ON = {"AWS_SECRET_ACCESS_KEY": "canary-9", "VLLM_HOST_IP": "10.0.0.1"}
SIMULATOR = "record:f|simulate:http://h:1/v1?key_variable=MY_SIMULATOR&seed=1"
PAGES = "pages:?summary=http://h:1/v1&key_variable=OPENAI_READER"
TOOLS = "mcp:npx some-server?tool=search&env=MY_SEARCH,MY_OTHER_SEARCH"


@pytest.fixture
def environment(monkeypatch):
    for name, value in {**SECRETS, **OPEN, **NOT_PASSED_ON}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_on_one_machine_ray_is_told_nothing_that_its_workers_inherit(environment):
    environment.delenv("RAY_ADDRESS", raising=False)
    variables = ray_options({"A": "1"}, Device.CUDA, 3)["runtime_env"]["env_vars"]
    assert set(variables) == {"A", "NCCL_DEBUG"}


def test_a_cluster_is_told_what_everybody_may_read_and_no_secret(environment):
    """Its workers do not inherit this process's environment; Ray writes its runtime environment to open logs."""
    environment.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    judge = JudgeConfig("http://h:1/v1", "judge", key_variable="OPENAI_JUDGE")
    run = RunConfig("/run", find_recipe("deep_researcher"), RetrieverConfig(SIMULATOR, PAGES), judge=judge)
    variables = ray_options({"A": "1"}, Device.CUDA, 3, keys_of(run))["runtime_env"]["env_vars"]
    assert {name: variables.get(name) for name in OPEN} == OPEN and variables["A"] == "1"
    assert "canary" not in json.dumps(variables) and not set(NOT_PASSED_ON) & set(variables)


def test_workers_on_gpus_have_all_that_the_hosts_own_ray_would_give_them(monkeypatch):
    """OpenRLHF sets it where it starts Ray itself, which the driver has done before."""
    spec = importlib.util.find_spec("openrlhf")
    if spec is None or spec.origin is None:
        pytest.skip("openrlhf is not installed")
    host = ast.parse(Path(spec.origin).with_name("cli").joinpath("train_ppo_ray.py").read_text())
    (started,) = (
        node for node in ast.walk(host) if isinstance(node, ast.Call) and ast.unparse(node.func) == "ray.init"
    )
    runtime = next(given.value for given in started.keywords if given.arg == "runtime_env")
    for variable in ("RAY_ADDRESS", "TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS"):
        monkeypatch.delenv(variable, raising=False)
    theirs = eval(compile(ast.Expression(runtime), "train_ppo_ray.py", "eval"), {"os": os})["env_vars"]
    ours = ray_options(worker_environment(Device.CUDA), Device.CUDA, 1)["runtime_env"]["env_vars"]
    assert theirs and {name: ours.get(name) for name in theirs} == theirs
    monkeypatch.setenv("RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", "0")
    assert worker_environment(Device.CUDA)["RAY_ENABLE_ZERO_COPY_TORCH_TENSORS"] == "0", "what the user has set wins"


def test_keys_reach_the_workers_of_a_cluster_in_a_file_of_the_users_own(environment, tmp_path):
    environment.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    file = tmp_path / "keys.json"
    with worker.shared_keys(file, [SIMULATOR, TOOLS, PAGES, ""], ["OPENAI_JUDGE"]):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text()) == SECRETS
        environment.setenv(KEYS_VARIABLE, str(file))
        for name in SECRETS:
            environment.setenv(name, "of `ray start`")
        environment.setattr(worker, "PATCHES", ())  # the host's modules of this process stay as they are
        worker.prepare()
        assert {name: os.environ[name] for name in SECRETS} == SECRETS
    assert not file.exists()


def test_on_one_machine_there_is_no_such_file(environment, tmp_path):
    environment.delenv("RAY_ADDRESS", raising=False)
    file = tmp_path / "keys.json"
    environment.setenv(KEYS_VARIABLE, str(file))
    with worker.shared_keys(file, [SIMULATOR]):
        assert not file.exists()
        worker.take_keys()
    assert os.environ["WANDB_API_KEY"] == "canary-1"


def test_a_file_of_keys_that_cannot_be_read_is_named(environment, tmp_path):
    file = tmp_path / "keys.json"
    file.write_text("{")
    environment.setenv(KEYS_VARIABLE, str(file))
    with pytest.raises(InputError, match=r"keys\.json"):
        worker.take_keys()
