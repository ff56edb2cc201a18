"""What the arms search, and the questions that they learn from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.findings import play as play_module
from benchmarks.findings.arms import find_arm
from benchmarks.findings.corpora import KINDS, corpus_of
from benchmarks.findings.play import Seed
from benchmarks.findings.questions import questions_of
from foundation.errors import InputError
from r1_searcher.episode.question import read_rows
from r1_searcher.launch.services import Services
from r1_searcher.recipe.presets import find_preset
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import read_corpus
from retriever.passage import SearchRequest
from retriever.sources import open_retriever


def test_other_engines_are_changed_copies_of_the_corpus(world: Path) -> None:
    file = world / "corpus.jsonl"
    own = read_corpus(file)
    assert corpus_of(file, "plain", 0) == file
    found = {kind: read_corpus(corpus_of(file, kind, 0)) for kind in KINDS[1:]}
    assert corpus_of(file, "noisy", 0).read_bytes() == corpus_of(file, "noisy", 0).read_bytes()
    same = {
        kind: np.mean([one == other for one, other in zip(own, passages, strict=True)])
        for kind, passages in found.items()
        if kind != "empty"
    }
    assert same["noisy"] == pytest.approx(0.7, abs=0.01) and same["random"] == 0 and same["web_like"] == 0
    assert all(page.text.startswith(passage.text + " ") for page, passage in zip(found["web_like"], own, strict=True))
    assert [passage.title for passage in found["random"]] == [passage.title for passage in own]
    queries = [f"{passage.title} {passage.text.split()[4]}" for passage in own[:50]]
    assert not any(Bm25Index.build(found["empty"]).search(queries, 2)[place] for place in range(50))
    with pytest.raises(InputError, match="no corpus of the kind 'dense'"):
        corpus_of(file, "dense", 0)


@pytest.mark.e2e
def test_arms_of_a_seed_share_their_search_services(world: Path) -> None:
    """With the real server."""
    with Services() as services:
        shared = Seed(0, services)
        url = shared.search(world / "corpus.jsonl", "random")
        assert url.startswith("http://") and shared.search(world / "corpus.jsonl", "random") == url
        passage = read_corpus(world / "corpus.jsonl")[0]

        async def search() -> Any:
            source = open_retriever(url)
            try:
                return await source.search(SearchRequest(passage.title, 1))
            finally:
                await source.close()

        hits = asyncio.run(search())
        assert hits[0].passage.title == passage.title and hits[0].passage.text != passage.text


def test_the_simulated_engine_is_served_once_with_each_arms_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def start(services: Services, simulator: Any, seed: int) -> str:
        started.append(seed)
        return f"simulate:http://x/v1?mode=short&noise={simulator.noise}&seed={seed}"

    monkeypatch.setattr(play_module, "start_simulator", start)
    shared, preset = Seed(7, Services()), find_preset("zerosearch_tiny")
    for noise in ("0:0.5", "0.25:0.25", "0.5:0"):
        assert shared.simulator(preset, noise) == f"simulate:http://x/v1?mode=short&noise={noise}&seed=7"
    assert started == [7]
    with pytest.raises(InputError, match="has no simulated engine"):
        shared.simulator(find_preset("tiny"), "0:0.5")


def test_training_questions_of_a_kind(world: Path, tmp_path: Path) -> None:
    everything = read_rows(world / "stage2.jsonl")
    chosen: Callable[[str], list[Any]] = lambda kind: read_rows(  # noqa: E731
        questions_of(world / "stage2.jsonl", kind, tmp_path / "questions.jsonl")
    )
    assert chosen("") == everything
    assert {(row.hops, row.source) for row in chosen("easy")} == {(1, "tiny_world")}
    assert {row.hops for row in chosen("hard")} == {3} and len(chosen("chains")) == 48
    with pytest.raises(InputError, match="no kind of questions 'x'"):
        chosen("x")


@pytest.mark.parametrize("arm", ["easy_data", "hard_data", "one_source", "group_1", "group_4", "group_16"])
def test_there_are_questions_for_75_steps(arm: str) -> None:
    """Of 600 questions a fifth are no chains, and of chains a third has each length."""
    questions = {"easy": 160, "hard": 160, "chains": 480, "": 600}[find_arm(arm).asked]
    options = find_arm(arm).options
    batch = int(options[options.index("--rollout.batch_size") + 1]) if "--rollout.batch_size" in options else 8
    assert questions // batch * int(options[options.index("--train.num_episodes") + 1]) >= 75
