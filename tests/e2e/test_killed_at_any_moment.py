"""PPO with a critic, checkpoints and saved models at every step, killed with -9 at moments spread over its work.

Each kill is followed by the same command, which must go on from the last checkpoint that both models had. The moments
lie around what is written: the driver starts, a checkpoint begins, the actor's is named, the critic's is, a model is
saved, a step is logged, an episode ends; the last two kills meet the final model. `KILLS=6` makes it shorter.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import math
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.processes.e2e_stack import Training, check_every_question_is_trained_on_once

from r1_searcher import export
from r1_searcher.run.checkpoints import kept_steps, saved_models
from r1_searcher.run.run_config import RunConfig
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.trained_with import TrainedWith

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("KILLS", "20"))
STEPS, BATCH, SAMPLES, KEPT = 20, 4, 4, 2
FLAGS = (
    *("--algo.advantage.estimator", "gae", "--algo.advantage.gamma", "1", "--algo.advantage.lambd", "1"),
    *("--critic.adam.lr", "1e-3", "--rollout.batch_size", str(BATCH), "--rollout.n_samples_per_prompt", str(SAMPLES)),
    *("--rollout.micro_batch_size", "8", "--train.micro_batch_size", "8", "--train.batch_size", str(BATCH * SAMPLES)),
    *("--ckpt.save_steps", "1", "--ckpt.max_num", str(KEPT), "--ckpt.save_hf"),
)


Facts = set[object]


def names(folder: Path, pattern: str) -> Facts:
    return set(glob.glob(str(folder / pattern)))


def versions(folder: Path, pattern: str) -> Facts:
    """Files as they were last written."""
    found: Facts = set()
    for name in glob.glob(str(folder / pattern)):
        with contextlib.suppress(FileNotFoundError):
            found.add((name, os.stat(name).st_mtime_ns))
    return found


def lines(file: Path) -> Facts:
    return set(file.read_text(errors="replace").splitlines()) if file.is_file() else set()


AGAIN_AND_AGAIN: dict[str, Callable[[RunFolder], Facts]] = {
    "a checkpoint of the actor begins": lambda run: names(run.checkpoints, "_actor/global_step*"),
    "a file of the critic": lambda run: names(run.checkpoints, "_critic/global_step*/*.pt"),
    "the actor's is named": lambda run: lines(run.checkpoints / "_actor" / "latest"),
    "the critic's is named": lambda run: lines(run.checkpoints / "_critic" / "latest"),
    "a model is saved": lambda run: names(run.checkpoints, "*_hf"),
    "the driver starts": lambda run: versions(run.path, "train.log"),
    "a step is logged": lambda run: lines(run.metrics_file),
    "an episode ends": lambda run: versions(run.trajectories, "*.jsonl"),
}
"""What is looked at; a moment is the first new fact."""
AT_THE_END: dict[str, Callable[[RunFolder], Facts]] = {
    "the final model begins": lambda run: versions(run.model, "*"),
    "the final model is noted": lambda run: versions(run.model, "r1_searcher.json"),
}


def start(run: Training) -> subprocess.Popen:
    """Start the command, and see from which step it goes on. What an earlier attempt has left is cleared away then."""
    folder = RunFolder(run.run_dir)
    expected, before = step_to_go_on_from(folder), versions(folder.path, "session.json")
    process = run.start()
    while process.poll() is None and not versions(folder.path, "session.json") - before:
        time.sleep(0.01)
    if process.poll() is None:
        assert RunConfig.read(folder.config_file).first_step == expected
    return process


def step_to_go_on_from(folder: RunFolder) -> int:
    """The step that DeepSpeed has named for both models; what it names is whole where one rank writes it."""
    found = []
    for model in ("_actor", "_critic"):
        file = folder.checkpoints / model / "latest"
        text = file.read_text() if file.is_file() else "global_step0"
        found.append(int(text.removeprefix("global_step")) if text else math.inf)  # killed while it was written
    return int(min(found))


def kill(process: subprocess.Popen) -> None:
    """All processes of the command at once, as far as one can."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    process.wait()


def test_a_run_ends_well_however_often_it_is_killed(training, world, retriever):
    run = training(2, world / "stage2.jsonl", retriever.url, *FLAGS, options=("--max-steps", str(STEPS)))
    folder, lot, kills = RunFolder(run.run_dir), random.Random(0), []
    moments = [*itertools.islice(itertools.cycle(AGAIN_AND_AGAIN.items()), KILLS - len(AT_THE_END))]
    for name, look in [*moments, *AT_THE_END.items()]:
        process = start(run)
        before = look(folder)
        while process.poll() is None and not look(folder) - before:
            time.sleep(0.005)
        assert process.poll() is None, f"ended before {name}, after {kills}: {run.console[-3000:]}"
        time.sleep(lot.choice([0, 0, 0.01, 0.03, 0.1, 0.3]) * (name not in AT_THE_END))
        kill(process)
        kills.append((name, step_to_go_on_from(folder)))
        print(f"killed when {name}; the step to go on from: {kills[-1][1]}", flush=True)
    assert start(run).wait(900) == 0, run.console[-3000:]

    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))
    assert {line["rollout/num_samples"] for line in run.metrics()} == {BATCH * SAMPLES}
    check_every_question_is_trained_on_once(run, STEPS, STEPS * BATCH)
    assert folder.is_complete and kept_steps(folder) == list(range(STEPS - KEPT + 1, STEPS + 1))
    assert sorted(saved_models(folder)) == kept_steps(folder)
    check_the_last_checkpoint_is_the_model(folder)


def check_the_last_checkpoint_is_the_model(folder: RunFolder) -> None:
    import torch
    from safetensors.torch import load_file

    export.export(folder.path)
    exported = load_file(folder.path / "export" / f"global_step{STEPS}" / "model.safetensors")
    final = load_file(folder.model / "model.safetensors")
    assert all(torch.equal(value, final[name]) for name, value in exported.items())
    said = TrainedWith.read(folder.model)
    assert said is not None and said.step == STEPS and said.recipe.name == "tiny.stage2"
