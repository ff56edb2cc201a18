"""Fixtures of the end-to-end tests; what they are made of stands in `e2e_stack.py`."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.processes.e2e_stack import REPO, RetrieverProcess, Training

from data_prep.tiny_world import main as make_world
from foundation.process import reachable_address

LONGEST = (
    *("test_training_survives", "test_quickstart", "test_cluster", "test_two_actors", "test_own_agent", "test_served"),
    *("test_run", "test_select", "test_ask_and_serve", "test_sft"),
)
"""Files that start trainings and engines, by how many; those of the other folders, too."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: side by side, the last of the others then end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    assert make_world(["--out", str(folder), "--stage1", "16", "--stage2", "80", "--heldout", "24"]) == 0
    return folder


@pytest.fixture(scope="session")
def model() -> Path:
    return REPO / "data_prep" / "tiny" / "model"


@contextlib.contextmanager
def _search_service(world: Path, host: str) -> Iterator[RetrieverProcess]:
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    service = RetrieverProcess(world / "corpus_train.jsonl", port, host)
    service.start()
    yield service
    service.kill()


@pytest.fixture(scope="session")
def _shared_search_service(world) -> Iterator[RetrieverProcess]:
    with _search_service(world, "127.0.0.1") as service:
        yield service


@pytest.fixture
def retriever(_shared_search_service) -> RetrieverProcess:
    """The search service that training is given: over the corpus without what is held out. A test may kill it."""
    if _shared_search_service.process is None:
        _shared_search_service.start()
    return _shared_search_service


@pytest.fixture
def retriever_for_all(world) -> Iterator[RetrieverProcess]:
    """The same, at an address that other machines would reach."""
    with _search_service(world, reachable_address()) as service:
        yield service


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path: Ray's sockets are below it."""
    folder = tempfile.mkdtemp(prefix="r1ray")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def training(tmp_path, model):
    """Builds a training command with the flags of the tiny preset; what it started is over when the test is."""
    built: list[Training] = []

    def build(
        stage: int, data: Path, url: str, *flags: str, options: Sequence[str] = (), folder: Path = tmp_path
    ) -> Training:
        script = REPO / "train_scripts" / f"stage{stage}.sh"
        run_dir = folder / "run"
        command = ["bash", str(script), "--preset", "tiny", "--run-dir", str(run_dir), "--data", str(data)]
        command += ["--retriever-url", url, "--actor.model_name_or_path", str(model), *options, *flags]
        built.append(Training(run_dir, tuple(command)))
        return built[-1]

    yield build
    for run in built:
        run.end()
