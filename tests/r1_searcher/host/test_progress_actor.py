"""The count of questions against the host's own loop: OpenRLHF's `SamplesGenerator` and the steps of its trainer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from r1_searcher.recipe.schedule import Batches, Progress, read_steps

SAMPLES = 2
PASSES = 3


@pytest.fixture(scope="module")
def samples_generator():
    """The host's module; its import is slow and needs the patches for a machine without CUDA."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    from r1_searcher.host import cpu

    cpu.install()
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


def trained_steps(samples_generator, game: Game, engines: int, resumed_at: int) -> list[tuple[int, int]]:
    """The trainer's step and the label of every sample that it trains on: the loop of `PPOTrainer.fit`."""
    args = SimpleNamespace(
        rollout=SimpleNamespace(batch_size=game.batches.per_step, n_samples_per_prompt=SAMPLES),
        vllm=SimpleNamespace(enable_sleep=False),
        algo=SimpleNamespace(
            advantage=SimpleNamespace(is_correction_level="off"),
            dynamic_filtering_enable=game.filtered > 0,
            dynamic_filtering_range=(0.0, 1.0),
        ),
    )
    data = [(["data"], [f"q{n}"], [f"q{n}"], [None]) for n in range(game.batches.per_pass)]
    fleet = [game.engine() for _ in range(engines)]
    host = samples_generator.SamplesGenerator(SimpleNamespace(args=args), data, None, None, fleet)
    found, step = [], 0
    for _ in range(PASSES):
        while True:
            samples, _, _, exhausted = host.generate_samples()
            if samples:
                step += 1
                found += [(step, int(sample.info["step"].item())) for sample in samples]
                if step == resumed_at:
                    game.resume(step)
            if exhausted:
                break
    return found


@pytest.mark.parametrize("filtered", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(("per_step", "per_pass"), [(4, 12), (4, 10), (8, 8), (1, 3), (5, 21)])
@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("resumed_at", [0, 2, 3])
def test_labels_are_the_hosts_own_steps(samples_generator, tmp_path, filtered, per_step, per_pass, engines, resumed_at):
    game = Game(Batches(per_step, per_pass), filtered, tmp_path / "p.jsonl", seed=engines)
    found = trained_steps(samples_generator, game, engines, resumed_at)
    assert all(step == label for step, label in found), found
    assert [note.step for note in read_steps(tmp_path / "p.jsonl")] == list(range(1, found[-1][0] + 1))
    if not filtered:
        assert len(found) == PASSES * per_pass * SAMPLES
