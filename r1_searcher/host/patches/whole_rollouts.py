"""OpenRLHF's loop over the data, held to whole rollouts and to the number of steps that the run has.

OpenRLHF trains what is left of a pass over the data as a smaller rollout (`PPOTrainer.fit`). Where the actors cannot
share its samples evenly, one of them has a micro-batch more, and waits in it for the others until the process group
gives up (60 minutes). Where they can, the gradients of a last, partial batch stay in DeepSpeed's accumulation and are
mixed into the next one. `launch/extent.py` therefore cuts the questions to whole rollouts, and this module drops the
rest that filtering (`--algo.dynamic_filtering_enable`) still leaves. The four published systems on verl do the same
(`drop_last` of its data loader).

OpenRLHF also knows no number of steps, only passes (`--train.num_episodes`). The data are over for it here once the run
has had its steps, and its learning-rate schedules end with the last of them.

What it logs as `dynamic_filtering_pass_rate` is samples kept per question drawn: 400 % where all are kept of four
samples each. Here it is the share of the questions.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

from r1_searcher.host.patches.host_patch import HostPatch


def _patch_samples_generator(module: ModuleType) -> None:
    from r1_searcher.run.run_config import RunConfig  # only where it is needed: every Ray worker imports this module

    generate = module.SamplesGenerator.generate_samples

    @wraps(generate)
    def generate_samples(self: Any, **options: Any) -> tuple[list[Any], float | None, int, bool]:
        if not hasattr(self, "_r1_searcher_run"):
            self._r1_searcher_run = RunConfig.of_this_process()
            self._r1_searcher_step = self._r1_searcher_run.first_step
        run = self._r1_searcher_run
        if self._r1_searcher_step >= run.total_steps:
            return [], None, 0, True
        samples, pass_rate, drawn, exhausted = generate(self, **options)
        if len(samples) < run.questions_per_step * run.samples_per_question:
            samples = []  # what filtering has left at the end of a pass
        self._r1_searcher_step += bool(samples)
        return samples, pass_rate, drawn, exhausted

    module.SamplesGenerator.generate_samples = generate_samples


def _patch_pass_rate(module: ModuleType) -> None:
    generate = module.SamplesGenerator.generate_samples

    @wraps(generate)
    def generate_samples(self: Any, **options: Any) -> tuple[list[Any], float | None, int, bool]:
        samples, pass_rate, drawn, exhausted = generate(self, **options)
        share = None if pass_rate is None else pass_rate / self.args.rollout.n_samples_per_prompt
        return samples, share, drawn, exhausted

    module.SamplesGenerator.generate_samples = generate_samples


def _patch_trainer(module: ModuleType) -> None:
    from r1_searcher.run.run_config import RunConfig

    prepare = module.prepare_datasets

    @wraps(prepare)
    def prepare_datasets(strategy: Any, tokenizer: Any) -> tuple[Any, Any, int]:
        prompts, evaluated, _ = prepare(strategy, tokenizer)
        return prompts, evaluated, RunConfig.of_this_process().optimizer_steps

    module.prepare_datasets = prepare_datasets  # type: ignore[attr-defined]


PATCHES = (
    HostPatch(
        "openrlhf.trainer.ppo_utils.samples_generator",
        "rollout_samples = self._sample_buffer[:chunk_size]",
        _patch_samples_generator,
    ),
    HostPatch(
        "openrlhf.trainer.ppo_utils.samples_generator",
        "filter_pass_rate = len(experiences) / prompts_consumed * 100",
        _patch_pass_rate,
    ),
    HostPatch("openrlhf.trainer.ppo_trainer", "* args.train.num_episodes", _patch_trainer),
)
