"""Trainings that follow one another, and the evaluations before, between and after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    followers = _followers(runs)
    followed = {follower.path for follower in followers.values()}
    return [_placed(_line_from(run, followers), evaluations) for run in runs if run.path not in followed]


def _followers(runs: Sequence[ReportedRun]) -> dict[Path, ReportedRun]:
    """Folder of a run -> the first run that begins with its model."""
    left_by = {run.model_folder.resolve(): run for run in runs}
    followers: dict[Path, ReportedRun] = {}
    # Those whose model is where they name it come first: for the others a neighbour of the right name is a guess.
    for run in sorted(runs, key=lambda run: _named_model(run) not in left_by):
        before = left_by.get(_named_model(run)) or left_by.get(_model_beside(run))
        # A circle has no beginning, so its runs would be in no chain.
        if before is not None and before not in _line_from(run, followers):
            followers.setdefault(before.path, run)
    return followers


def _named_model(run: ReportedRun) -> Path:
    """Where the model was that a run began with."""
    return Path(run.initial_model).resolve()


def _model_beside(run: ReportedRun) -> Path:
    """Where that model is if it and the run were moved together, as the stages of a quickstart are."""
    named = Path(run.initial_model)
    return (run.path.parent / named.parent.name / named.name).resolve()


def _line_from(first: ReportedRun, followers: Mapping[Path, ReportedRun]) -> tuple[ReportedRun, ...]:
    line = [first]
    while follower := followers.get(line[-1].path):
        line.append(follower)
    return tuple(line)


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
