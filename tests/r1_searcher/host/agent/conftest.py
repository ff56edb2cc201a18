"""The executor as the host makes it, over a search service that can be broken."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.episodes.executions import RECIPE

from r1_searcher.recipe.recipe import Recipe
from r1_searcher.recipe.schedule import Batches, Progress
from r1_searcher.run.run_config import RUN_VARIABLE, RetrieverConfig, RunConfig
from retriever.passage import Hits, Passage

PASSAGES = [
    Passage("p1", "Tower", "The tower stands in Paris."),
    Passage("p2", "River", "The river is the Seine."),
]


@pytest.fixture(scope="module")
def openrlhf():
    """The host's import is slow and needs the patches for a machine without CUDA; done once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    from r1_searcher.host import cpu

    cpu.install()
    yield pytest.importorskip("openrlhf.utils.agent")
    patch.undo()


class FlakyIndex:
    """A BM25 index that fails for queries holding a word of `broken`."""

    name = "flaky"

    def __init__(self) -> None:
        from retriever.index.bm25 import Bm25Index

        self._index = Bm25Index.build(PASSAGES)
        self.broken: set[str] = set()
        self.times = 0

    def __len__(self) -> int:
        return len(PASSAGES)

    def search(self, queries, top_k) -> list[Hits]:
        if self.broken & set(" ".join(queries).split()):
            self.times += 1
            raise RuntimeError("broken")
        return self._index.search(queries, top_k)


@pytest.fixture(scope="module")
def service():
    from werkzeug.serving import make_server

    from retriever.server.__main__ import create_app

    index = FlakyIndex()
    server = make_server("127.0.0.1", 0, create_app(index), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield SimpleNamespace(index=index, url=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join(5)


@pytest.fixture
def make_executor(openrlhf, service, tmp_path, monkeypatch):
    """Builds the executor as the host does: without arguments, from the environment."""
    made = []

    def make(recipe: Recipe = RECIPE, *, browse: str = "", outage_seconds: float = 5.0, **changes):
        from r1_searcher.host.agent import AgentExecutor

        service.index.broken, service.index.times = set(), 0
        config = RunConfig(
            run_dir=str(tmp_path),
            recipe=recipe,
            retriever=RetrieverConfig(
                service.url, browse, read_timeout=5.0, attempts=1, deadline=5.0, outage_seconds=outage_seconds
            ),
            **changes,
        )
        config.write(tmp_path / "run.json")
        monkeypatch.setenv(RUN_VARIABLE, str(tmp_path / "run.json"))
        made.append(AgentExecutor())
        made[-1].progress = progress_here(config)
        return made[-1]

    yield make
    for executor in made:
        executor.log.close()


def progress_here(config: RunConfig):
    """The run's count of questions with the actor's face, without Ray."""
    progress = Progress(
        Batches(config.questions_per_step, config.questions_per_pass),
        config.total_steps,
        config.recipe.switch,
        Path(config.run_dir) / "progress.jsonl",
        config.first_step,
    )

    async def begin():
        return progress.begin()

    async def end(episodes, *, kept):
        progress.end(episodes, kept=kept)

    return SimpleNamespace(begin=begin, end=end)
