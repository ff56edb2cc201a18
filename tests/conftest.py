"""Settings of every test, and the tiny world with its search service."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline would make every property a test of how busy the machine is.
settings.register_profile("ours", deadline=None, max_examples=int(os.environ.get("R1_SEARCHER_EXAMPLES", "50")))
settings.load_profile("ours")

# A shell's background job ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests side by side (pytest -n) share the cores; torch would start a thread per core in each worker and its processes.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Each full look for garbage walks through all that torch and transformers have made; tests make little.
gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish() -> None:
    """Keep what collecting has made, which lives to the end, out of every later look for garbage."""
    gc.freeze()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world of seed 0, as `data_prep.tiny_world` writes it."""
    from data_prep.tiny_world import main

    folder = tmp_path_factory.mktemp("tiny") / "world"
    assert main(["--out", str(folder), "--seed", "0"]) == 0
    return folder


@pytest.fixture(scope="session")
def retriever_url(world: Path) -> Iterator[str]:
    """The search service over the tiny world, in a thread of this process."""
    from support.services.fake_web import serve_app

    from retriever.index.bm25 import Bm25Index
    from retriever.index.corpus import read_corpus
    from retriever.server.app import create_app

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line per request would stand among a command's own
    with serve_app(create_app(Bm25Index.build(read_corpus(world / "corpus.jsonl")))) as url:
        yield url
