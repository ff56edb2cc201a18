"""What a power cut leaves of every state file is the old state or the new one; a damaged file is one line."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.crashes.power_cut import Disk, PowerCut
from support.runs.run_folders import episode

from data_prep.pretrained.folder import is_made, recorded_folder
from data_prep.select.rollouts import Criterion, RolloutLog, RolloutPlan
from data_prep.select.selection import FORMAT_VERSION, SelectionFolder, read_manifest
from eval.phases import Ledger
from eval.phases import Phase as Work
from eval.play.contestant import Contestant
from eval.results.folder import EvaluationFolder, Predictions
from eval.results.scores import Scores
from foundation.errors import R1SearcherError
from foundation.files import read_json, write_json
from foundation.json_lines import JsonLines, write_json_lines
from foundation.owned_folder import OwnedFolder
from foundation.process import Machine
from r1_searcher.episode.question import QARow
from r1_searcher.launch.processes import ProcessSession
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.recipe.schedule import Batches, Progress, read_steps
from r1_searcher.reward.judge import Case, Verdict, VerdictCache
from r1_searcher.run.checkpoints import ModelCheckpoints
from r1_searcher.run.episode_log import EpisodeLog, read_episodes
from r1_searcher.run.metrics_log import read_metrics
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.run_guard import with_signals
from r1_searcher.run.trained_with import TrainedWith
from retriever import Passage
from retriever.build.embeddings import Embeddings
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import CorpusError
from retriever.index.encoder import HashingEncoder
from retriever.index.faiss_vectors import FaissVectors, VectorsError
from retriever.index.manifest import IndexMismatch
from retriever.index.store import PassageStore, finish_store, write_shard

RECIPE = find_recipe("tiny.stage2")
ROW = QARow("q", "Who?", ("Ann",))
REFUSALS = (R1SearcherError, CorpusError, IndexMismatch, VectorsError)
"""Errors that a command reports as one line."""
PARTS = [[Passage(f"{part}{n}", "title", f"word{n} part{part}") for n in range(20)] for part in range(3)]


def run_config(folder: Path, n: int) -> None:
    RunConfig(str(folder), RECIPE, RetrieverConfig(f"http://h{n}")).write(folder / "run.json")


def identity(folder: Path, n: int) -> None:
    RunFolder(folder).prepare({"flags": {"--actor.model_name_or_path": f"m{n}"}}, [ROW] * (n + 1))


def session(folder: Path, n: int) -> None:
    write_json(folder / "session.json", asdict(ProcessSession(1, Machine.here(), {n: n})))


def progress(folder: Path, n: int) -> None:
    Progress(Batches(1, 100), 100, None, folder / "progress.jsonl", n).end([(True, True)])


def metrics(folder: Path, n: int) -> None:
    write_json_lines(folder / "metrics.jsonl", [{"step": step} for step in range(n + 1)])


def signals(folder: Path, n: int) -> None:
    with contextlib.closing(JsonLines(folder / "signals.jsonl")) as lines:
        lines.append({"step": n, "seen": 1})


def log_episode(folder: Path, n: int, name: str = "e.jsonl") -> None:
    with contextlib.closing(EpisodeLog(folder / name)) as log:
        log.write(replace(episode(f"q{n}", n, "an answer"), decoding="greedy"))


def predict(folder: Path, n: int) -> None:
    log_episode(folder, n, "predictions.jsonl")


def predictions(folder: Path) -> int:
    with contextlib.closing(Predictions(folder / "predictions.jsonl")) as found:
        return len(found.of("greedy"))


def end(folder: Path, n: int) -> None:
    run = RunFolder(folder)
    run.model.mkdir(exist_ok=True)
    (run.model / "weights").write_bytes(b"weights")
    if n:
        run.mark_complete()


def ended(folder: Path) -> bool:
    """Whether the run says that it is complete, and is."""
    return RunFolder(folder).is_complete and (folder / "model" / "weights").read_bytes() == b"weights"


def checkpoint(folder: Path, n: int) -> None:
    (folder / "checkpoints" / "_actor").mkdir(parents=True, exist_ok=True)
    ModelCheckpoints(folder / "checkpoints" / "_actor").continue_from(10 + n)


def latest(folder: Path) -> float:
    return ModelCheckpoints(folder / "checkpoints" / "_actor").latest


def trained(folder: Path, n: int) -> None:
    TrainedWith(RECIPE, (), "base", n).write(folder)


def judge(folder: Path, n: int) -> None:
    with contextlib.closing(VerdictCache(folder / "v.jsonl")) as cache:
        cache.put(f"k{n}", Case("Who?", ("Ann",), "Ann"), Verdict(correct=True, reply="True"))


def verdicts(folder: Path) -> int:
    with contextlib.closing(VerdictCache(folder / "v.jsonl")) as cache:
        return sum(cache.get(f"k{n}") is not None for n in range(2))


def evaluation(folder: Path, n: int) -> None:
    EvaluationFolder(folder).claim({"model": n})


def scores(folder: Path, n: int) -> None:
    Scores({"greedy": {"n": n}}, {}).write(folder / "scores.json")


def selection(folder: Path, n: int) -> None:
    SelectionFolder(folder).claim({"model": n})


def roll(folder: Path, n: int) -> None:
    with contextlib.closing(RolloutLog(folder / "rollouts.jsonl", Criterion())) as log:
        log.add("search", n, 0, episode("q", 0, "an answer"))


def rollouts(folder: Path) -> int:
    with contextlib.closing(RolloutLog(folder / "rollouts.jsonl", Criterion())) as log:
        return log.tries(RolloutPlan("search", Contestant(RECIPE), 9), replace(ROW, id="q")).made


def manifest(folder: Path, n: int) -> None:
    said = {name: {} for name in ("options", "settings", "outputs_sha256", "versions")}
    said |= {"format_version": FORMAT_VERSION, "inputs": [], "rollouts_sha256": str(n)}
    write_json(folder / "manifest.json", said)


def phase(folder: Path, n: int) -> None:
    Ledger(folder / "phases.jsonl").note(Work(f"p{n}", 1.0, "m", ()), 1.0, done=True)


def building(folder: Path, n: int) -> None:
    OwnedFolder(folder, folder / "building.json", "index").claim({"count": n})


def store(folder: Path, n: int) -> None:
    finish_store(folder, [write_shard(folder / f"shard-{part}.arrow", PARTS[part]) for part in range(n + 1)])


def stored(folder: Path) -> int:
    found = PassageStore.open(folder)
    found.verify()
    return len(found)


def index(folder: Path, n: int) -> None:
    Bm25Index.build(PARTS[n]).save(folder)


def indexed(folder: Path) -> list[str]:
    found = Bm25Index.load(folder)
    return [hit.passage.id for hit in found.search(["word7"], 3)[0]]


def embed(folder: Path, n: int) -> None:
    Embeddings.encode(folder, PARTS[0], HashingEncoder(8), shard_size=5)


def vectors(folder: Path, n: int) -> None:
    made = FaissVectors.new(8, "Flat")
    made.add(np.ones((n + 1, 8), np.float32))
    made.write(folder / "vectors.faiss")


def model(folder: Path, n: int) -> None:
    with recorded_folder(folder / f"m{n}", {"source": "s"}) as draft:
        if draft is not None:
            (draft / "weights").write_bytes(b"weights")


WHOLE, GROWS, REBUILT = "whole", "grows", "rebuilt"
"""Written at once; a log, of which a cut leaves a beginning; may be refused, and is then made again."""


@dataclass(frozen=True)
class State:
    """A file that a later process continues from."""

    file: str
    write: Callable[[Path, int], None]
    """Into a folder, for the `n`-th time; the first is 0."""
    read: Callable[[Path], Any]
    """The state, comparable; raises one of `REFUSALS`."""
    kind: str = WHOLE


def row_count(name: str) -> Callable[[Path], int]:
    """Steps of a run for which the guard has seen something."""
    lines = [{"step": 0}, {"step": 1}]
    return lambda folder: sum("seen" in row for row in with_signals(lines, folder / name))


STATES = {
    "identity of a run": State("identity.json", identity, lambda at: RunFolder(at).base_model),
    "configuration of a run": State(
        "run.json", run_config, lambda at: RunConfig.read(at / "run.json").retriever.source
    ),
    "session of a run": State("session.json", session, lambda at: ProcessSession.read(at / "session.json").seen),
    "steps of a run": State("progress.jsonl", progress, lambda at: len(read_steps(at / "progress.jsonl")), GROWS),
    "metrics of a run": State("metrics.jsonl", metrics, lambda at: len(read_metrics(at / "metrics.jsonl")), GROWS),
    "signals of a run": State("signals.jsonl", signals, row_count("signals.jsonl"), GROWS),
    "episodes of a run": State("e.jsonl", log_episode, lambda at: len(list(read_episodes(at / "e.jsonl"))), GROWS),
    "end of a run": State("complete", end, ended),
    "newest checkpoint": State("checkpoints/_actor/latest", checkpoint, latest),
    "what a model was trained with": State("r1_searcher.json", trained, lambda at: TrainedWith.read(at).step),
    "verdicts": State("v.jsonl", judge, verdicts, GROWS),
    "settings of an evaluation": State("evaluation.json", evaluation, lambda at: read_json(at / "evaluation.json")),
    "predictions": State("predictions.jsonl", predict, predictions, GROWS),
    "scores": State("scores.json", scores, lambda at: Scores.read(at / "scores.json")["greedy"]),
    "settings of a selection": State("selection.json", selection, lambda at: read_json(at / "selection.json")),
    "rollouts": State("rollouts.jsonl", roll, rollouts, GROWS),
    "manifest of a selection": State("manifest.json", manifest, lambda at: read_manifest(at)["rollouts_sha256"]),
    "phases": State("phases.jsonl", phase, lambda at: len(Ledger(at / "phases.jsonl").seconds()), GROWS),
    "settings of a build": State("building.json", building, lambda at: read_json(at / "building.json")),
    "passage store": State("store.json", store, stored, REBUILT),
    "shard of a store": State("shard-0.arrow", store, stored, REBUILT),
    "index": State("manifest.json", index, indexed, REBUILT),
    "passages of an index": State("passages.jsonl", index, indexed, REBUILT),
    "embeddings": State("embeddings.json", embed, lambda at: len(Embeddings.open(at).rows(np.arange(20))), REBUILT),
    "vectors": State("vectors.faiss", vectors, lambda at: len(FaissVectors.read(at / "vectors.faiss", "Flat"))),
    "published model": State("m1/origin.json", model, lambda at: is_made(at / "m1", {"source": "s"})),
}
"""Every file that a command continues from. Made anew at each start: `data/train.jsonl` and `keys.json` of a run."""


def state_of(state: State, folder: Path) -> Any:
    """What a reader finds, or that it refuses."""
    try:
        return state.read(folder)
    except REFUSALS as refusal:
        assert str(refusal).strip()
        return "refused"


@pytest.mark.parametrize("name", STATES)
def test_a_power_cut_leaves_the_old_state_or_the_new_one(name, tmp_path, monkeypatch):
    """The power fails before every call that waits for the disk or gives a name, and after the last one."""
    state = STATES[name]
    after = written(state, tmp_path / "unbroken", 2)
    before = written(state, tmp_path / "before", 1)
    for forgotten in ("names", "content"):
        for call in range(100):
            folder = tmp_path / f"{forgotten}-{call}"
            written(state, folder, 1)
            disk = Disk(call)
            with monkeypatch.context() as patched:
                disk.install(patched)
                with contextlib.suppress(PowerCut):
                    state.write(folder, 1)
            disk.forget_names() if forgotten == "names" else disk.forget_content()
            found = state_of(state, folder)
            if disk.calls < call:  # nothing was cut: what was said to be written must be there
                assert found == after
                break
            also = ["refused"] if state.kind == REBUILT else []
            assert found in (before, after, *also), f"cut before call {call}, {forgotten} forgotten: {found}"


def written(state: State, folder: Path, times: int) -> Any:
    folder.mkdir()
    for n in range(times):
        state.write(folder, n)
    return state_of(state, folder)


def damages(content: bytes) -> dict[str, bytes]:
    """Cut to lengths, among them random ones, and zeros in the place of blocks."""
    size, half = len(content), len(content) // 2
    lengths = {0, 1, half, size - 1, *random.Random(size).sample(range(size), min(5, size))}
    zeros = {"zeros": bytes(size), "zeros at the end": content[:half] + bytes(size - half)}
    return {f"cut to {length}": content[:length] for length in sorted(lengths)} | zeros


IN_ONE_SECTOR = ("newest checkpoint", "end of a run")
"""Files that are there whole, or empty, or not at all."""


@pytest.mark.parametrize("name", [name for name in STATES if name not in IN_ONE_SECTOR])
def test_a_damaged_file_is_read_as_far_as_it_goes_or_refused_in_one_line(name, tmp_path):
    state = STATES[name]
    whole = written(state, tmp_path / "whole", 2)
    content = (tmp_path / "whole" / state.file).read_bytes()
    for number, (damage, damaged) in enumerate(damages(content).items()):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / state.file).write_bytes(damaged)
        found = state_of(state, folder)
        if state.kind == GROWS:
            assert found == "refused" or found <= whole, f"{damage}: {found}"
        else:
            assert found in ("refused", whole), f"{damage}: {found}"


@pytest.mark.parametrize("content", [b"", bytes(13)])
def test_a_checkpoints_name_that_is_gone_lets_the_files_speak(content, tmp_path):
    checkpoint(tmp_path, 0)
    (tmp_path / "checkpoints" / "_actor" / "latest").write_bytes(content)
    assert latest(tmp_path) == float("inf") and RunFolder(tmp_path).last_step == 0
