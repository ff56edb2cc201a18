"""Trainings that follow one another, and the evaluations before, between and after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.report.runs import ReportedRun, RunKind


@dataclass(frozen=True)
class Placed:
    """An evaluation of a model that a training began with or has left."""

    evaluation: ReportedRun
    step: int
    """Overall step of the chain after which the model stood so; 0 before the first."""


@dataclass(frozen=True)
class Chain:
    """Trainings of which each begins with the model of the one before."""

    runs: tuple[ReportedRun, ...]
    evaluations: tuple[Placed, ...]
    """By step."""

    @property
    def borders(self) -> list[int]:
        """Overall step at which each run ends, with 0 before the first."""
        ends = [0]
        for run in self.runs:
            ends.append(ends[-1] + len(run.metrics))
        return ends


def find_chains(everything: Sequence[ReportedRun]) -> list[Chain]:
    """Every training in exactly one chain; an evaluation stands where its model does, or nowhere."""
    runs = [run for run in everything if run.kind is RunKind.TRAINING]
    evaluations = [run for run in everything if run.kind is RunKind.EVALUATION]
    followers = {run.name: _follower(run, runs) for run in runs}
    followed = {follower.name for follower in followers.values() if follower}
    chains = []
    for run in runs:
        if run.name not in followed:
            members = [run]
            while follower := followers[members[-1].name]:
                members.append(follower)
            chains.append(_placed(tuple(members), evaluations))
    return chains


def _follower(run: ReportedRun, runs: Sequence[ReportedRun]) -> ReportedRun | None:
    """The first run that begins with this one's model; the folder of both may have been moved since."""
    for other in runs:
        begins_with = Path(other.initial_model).parts[-2:]
        if other is not run and begins_with == (run.path.name, run.model_folder.name):
            return other
    return None


def _placed(runs: tuple[ReportedRun, ...], evaluations: Sequence[ReportedRun]) -> Chain:
    borders = Chain(runs, ()).borders
    fingerprints = [runs[0].initial_fingerprint, *(run.final_fingerprint for run in runs)]
    steps = {fingerprint: step for fingerprint, step in zip(fingerprints, borders, strict=True) if fingerprint}
    placed = [
        Placed(evaluation, steps[evaluation.evaluated_fingerprint])
        for evaluation in evaluations
        if evaluation.evaluated_fingerprint in steps
    ]
    return Chain(runs, tuple(sorted(placed, key=lambda each: (each.step, each.evaluation.name))))
