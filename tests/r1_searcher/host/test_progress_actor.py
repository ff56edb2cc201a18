"""The count of questions against the host's own loop: OpenRLHF's `SamplesGenerator` and the steps of its trainer."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from r1_searcher.host import cpu
from r1_searcher.host.patches import host_patch, whole_rollouts
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.recipe.schedule import Batches, Progress, read_steps
from r1_searcher.run.run_config import RUN_VARIABLE, RetrieverConfig, RunConfig

SAMPLES = 2
PASSES = 3


@pytest.fixture(scope="module")
def samples_generator():
    """The host's module; its import is slow and needs the patches for a machine without CUDA."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    cpu.install()
    host_patch.install(whole_rollouts.PATCHES)
    module = pytest.importorskip("openrlhf.trainer.ppo_utils.samples_generator")
    rest = random.Random(0)

    def wait(refs, **_):
        chosen = rest.choice(refs)
        return [chosen], [ref for ref in refs if ref is not chosen]

    patch.setattr(module, "ray", SimpleNamespace(wait=wait, get=lambda ref: ref() if callable(ref) else ref))
    yield module
    patch.undo()


@dataclass
class Game:
    """Engines that answer with rewards by lot, and one count of their questions."""

    batches: Batches
    filtered: float
    """Share of the questions that the host filters out."""
    file: Path
    progress: Progress = field(init=False)
    seed: int = 0

    def __post_init__(self) -> None:
        self.lot = random.Random(self.seed)
        self.resume(0)

    def resume(self, step: int) -> None:
        self.progress = Progress(self.batches, 100, None, self.file, first_step=step)

    def engine(self) -> SimpleNamespace:
        return SimpleNamespace(
            get_num_unfinished_requests=SimpleNamespace(remote=lambda: 0),
            generate_responses=SimpleNamespace(remote=self.dispatch),
        )

    def dispatch(self, *, prompt, label, num_samples, **_):
        """A question begins when it is dispatched, and ends when the host waits for it."""
        steps = {self.progress.begin().step for _ in range(num_samples)}
        assert len(steps) == 1
        kept = self.lot.random() >= self.filtered

        def answer():
            self.progress.end([(True, True)] * num_samples, kept=kept)
            return [
                {
                    **{"prompt": prompt, "label": label, "observation_tokens": [1, 2], "action_ranges": [(1, 2)]},
                    **{"reward": 0.5 if kept else 1.0, "scores": 0.5 if kept else 1.0, "rollout_log_probs": None},
                    "extra_logs": {"step": float(next(iter(steps)))},
                }
            ] * num_samples

        return answer


def trained_steps(
    samples_generator, game: Game, engines: int, resumed_at: int = 0, total_steps: int = 1000, first_step: int = 0
) -> list[tuple[int, int]]:
    """The trainer's step and the label of every sample that it trains on: the loop of `PPOTrainer.fit`."""
    per_step, per_pass = game.batches.per_step, game.batches.per_pass
    args = SimpleNamespace(
        rollout=SimpleNamespace(batch_size=per_step, n_samples_per_prompt=SAMPLES),
        vllm=SimpleNamespace(enable_sleep=False),
        algo=SimpleNamespace(
            advantage=SimpleNamespace(is_correction_level="off"),
            dynamic_filtering_enable=game.filtered > 0,
            dynamic_filtering_range=(0.0, 1.0),
        ),
    )
    write_config(game, total_steps, first_step)
    data = [(["data"], [f"q{n}"], [f"q{n}"], [None]) for n in range(per_pass)]
    fleet = [game.engine() for _ in range(engines)]
    nameless = SimpleNamespace(name_or_path="")  # another test may have patched the host, which then asks for the name
    host = samples_generator.SamplesGenerator(SimpleNamespace(args=args), data, None, nameless, fleet)
    found, step = [], 0
    for _ in range(PASSES):
        while True:
            samples, pass_rate, drawn, exhausted = host.generate_samples()
            if samples:
                kept = 100 * len(samples) / SAMPLES / drawn
                assert pass_rate == (pytest.approx(kept) if game.filtered else None), "per cent of the questions"
                step += 1
                found += [(step, int(sample.info["step"].item())) for sample in samples]
                if step == resumed_at:
                    game.resume(step)
            if exhausted:
                break
    return found


def write_config(game: Game, total_steps: int, first_step: int = 0) -> None:
    """The run's configuration, where the patched host looks for it."""
    batches, folder = game.batches, game.file.parent
    RunConfig(
        *(str(folder), find_recipe("tiny.stage1"), RetrieverConfig("http://127.0.0.1:1")),
        questions_per_step=batches.per_step,
        questions_per_pass=batches.per_pass,
        samples_per_question=SAMPLES,
        first_step=first_step,
        total_steps=total_steps,
        optimizer_steps=2 * total_steps,
    ).write(folder / "run.json")
    os.environ[RUN_VARIABLE] = str(folder / "run.json")


@pytest.fixture(autouse=True)
def _leave_the_environment(monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, "")


@pytest.mark.parametrize("filtered", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(("per_step", "per_pass"), [(4, 12), (8, 8), (1, 3), (5, 20)])
def test_labels_are_the_hosts_own_steps(samples_generator, tmp_path, filtered, per_step, per_pass):
    for engines, resumed_at in product((1, 3), (0, 2, 3)):
        file = tmp_path / f"{engines} {resumed_at}" / "p.jsonl"
        file.parent.mkdir()
        game = Game(Batches(per_step, per_pass), filtered, file, seed=engines)
        found = trained_steps(samples_generator, game, engines, resumed_at)
        steps = [note.step for note in read_steps(file)]
        assert all(step == label for step, label in found), found
        assert steps == list(range(1, len(steps) + 1))
        of_each = Counter(step for step, _ in found)
        assert of_each == dict.fromkeys(steps, per_step * SAMPLES), "a step is a whole rollout"
        if not filtered:
            assert len(found) == PASSES * per_pass * SAMPLES


@pytest.mark.parametrize("limit", [1, 2, 4, 6, 7])
def test_the_data_are_over_after_the_last_step(samples_generator, tmp_path, limit):
    game = Game(Batches(4, 8), 0.0, tmp_path / "p.jsonl")
    found = trained_steps(samples_generator, game, engines=1, total_steps=limit)
    assert {step for step, _ in found} == set(range(1, min(limit, PASSES * 2) + 1))


def test_a_resumed_run_makes_the_steps_that_are_left(samples_generator, tmp_path):
    game = Game(Batches(4, 8), 0.0, tmp_path / "p.jsonl")
    found = trained_steps(samples_generator, game, engines=1, total_steps=5, first_step=3)
    assert {step for step, _ in found} == {1, 2}


def test_schedules_extend_over_the_updates_of_the_run(tmp_path):
    """OpenRLHF counts passes over the data: its learning rate would end after all of them."""
    write_config(Game(Batches(4, 8), 0.0, tmp_path / "p.jsonl"), total_steps=3)
    host = SimpleNamespace(prepare_datasets=lambda strategy, tokenizer: ("prompts", None, 15))
    trainer = next(patch for patch in whole_rollouts.PATCHES if patch.module == "openrlhf.trainer.ppo_trainer")
    trainer.apply(host)
    assert host.prepare_datasets(None, None) == ("prompts", None, 6)
