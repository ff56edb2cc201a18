"""Two of the claims on a real model: the trainings of `train_scripts/real.sh` as rows, and what these say of a finding.

A row is a training, or the model that all of them started from: its curves, its scores on the dev questions after the
last stage, and F1 and format of every question, so that the intervals can be made again. They are over questions; two
seeds say little about others, so there is no verdict.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.findings.arms import find_arm
from benchmarks.findings.catalogue import PublishedFinding
from benchmarks.findings.rows import RESULTS, Row, curves_of, means_of
from benchmarks.results.numbers import short
from benchmarks.results.page import markdown_table
from eval.real_report import STAGES, START, trainings_in
from eval.results.folder import EvaluationFolder
from eval.results.folder_summary import DECODINGS
from eval.results.intervals import paired_difference
from eval.results.predictions import by_decoding, read_predictions
from eval.results.scores import Scores, percent, percent_with_interval
from foundation.errors import InputError
from foundation.json_lines import read_finished, write_json_lines

FILE_NAME = "real_model.jsonl"
MEASURED = {"F1": "answer/f1", "format": "format/rate"}
"""What is compared, as an episode's metrics call it."""


def store(folder: Path, results: Path = RESULTS) -> int:
    """Write a row for the start and for each finished training of a real run; returns how many there are.

    Raises:
        InputError: the start or every training lacks its evaluation; predictions or scores cannot be read.
    """
    rows = list(rows_of(folder))
    if len(rows) < 2:
        raise InputError(f"{folder} holds no finished training; expected the folder of train_scripts/real.sh")
    results.mkdir(parents=True, exist_ok=True)
    write_json_lines(results / FILE_NAME, rows)
    return len(rows)


def rows_of(folder: Path) -> Iterator[Row]:
    """The start, then the trainings whose last stage has been evaluated. Raises as `store` does."""
    evaluations = {START: None, **{training.stages[-1]: training for training in trainings_in(folder)}}
    for name, training in evaluations.items():
        if EvaluationFolder(folder / name).scores_file.is_file():
            what = {"variant": training.variant, "seed": training.seed} if training else {}
            stages = zip(STAGES, training.stages, strict=True) if training else ()
            curves = {stage: curves_of(folder / f"{run}_run") for stage, run in stages}
            evaluation = {"scores": _scores(folder / name), "questions": _questions(folder / name)}
            yield {"run": name, **what, "curves": curves, **evaluation}
        elif training is None:
            raise InputError(f"{folder} has no evaluation of {START}, where every training starts")


def _scores(evaluation: Path) -> dict[str, dict[str, Any]]:
    blocks = Scores.read(EvaluationFolder(evaluation).scores_file).blocks
    return {decoding: means_of(block) for decoding, block in blocks.items()}


def _questions(evaluation: Path) -> dict[str, dict[str, list[float | None]]]:
    """What is compared, of each question in the order of their ids; None where the episode failed."""
    found = {}
    for decoding, group in by_decoding(read_predictions(EvaluationFolder(evaluation).predictions_file)).items():
        records = sorted(group, key=lambda record: record.row.id)
        found[decoding] = {
            name: [None if record.failed else short(record.metrics[metric]) for record in records]
            for name, metric in MEASURED.items()
        }
    return found


def read(results: Path) -> list[Row]:
    """The stored rows; none where nothing was stored."""
    file = results / FILE_NAME
    return list(read_finished(file)) if file.is_file() else []


def section(finding: PublishedFinding, rows: Sequence[Row], paragraph: str = "") -> str:
    """What the stored trainings say of a finding, with a paragraph on why; empty where one side has none."""
    one, other = _sides(finding, rows)
    if not one:
        return ""
    shown = {
        "cold start": [row for row in rows if "variant" not in row],
        find_arm(finding.primary.one.arm).label: one,
        find_arm(finding.primary.other.arm).label: other,
    }
    runs = ", ".join(f"`{row['run']}`" for row in (*one, *other))
    parts = (
        f"### {finding.name.replace('_', ' ')} on a real model\n",
        _INTRODUCTION.format(seeds=len(one)),
        _table(shown) + "\n",
        _differences(finding.primary.name, one, other) + "\n",
        paragraph,
        f"Runs: {runs}.\n",
    )
    return "\n".join(filter(None, parts))


def _sides(finding: PublishedFinding, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The first settings and the finding's variant, by the seeds that both have, in their order."""
    if not finding.real_variant:
        return [], []
    one, other = (
        {row["seed"]: row for row in rows if row.get("variant") == variant} for variant in ("", finding.real_variant)
    )
    seeds = sorted(one.keys() & other.keys())
    return [one[seed] for seed in seeds], [other[seed] for seed in seeds]


def _table(shown: Mapping[str, Sequence[Row]]) -> str:
    heads = ("arm", "decoding", "seeds", "retrieval %", "format %", "EM %", "F1 %", "F1, lowest to highest", "searches")
    lines = []
    for label, rows in shown.items():
        for decoding in _decodings(rows):
            blocks = [row["scores"][decoding] for row in rows]
            means = [percent(fmean(b[name] for b in blocks)) for name in ("retrieval_rate", "format_rate", "em", "f1")]
            spread = f"{percent(min(b['f1'] for b in blocks))} to {percent(max(b['f1'] for b in blocks))}"
            searches = f"{fmean(b['searches_per_question'] for b in blocks):.2f}"
            lines.append((label, decoding, str(len(blocks)), *means, spread, searches))
    return markdown_table(heads, lines)


def _differences(comparison: str, one: Sequence[Row], other: Sequence[Row]) -> str:
    """How much the mean of the first settings is above the variant's, paired by question."""
    lines = []
    for name, decoding in itertools.product(MEASURED, _decodings([*one, *other])):
        columns = [row["questions"][decoding][name] for row in (*other, *one)]
        known = [values for values in zip(*columns, strict=True) if None not in values]
        before, after = [fmean(v[: len(other)]) for v in known], [fmean(v[len(other) :]) for v in known]
        found = paired_difference(before, after)
        points = percent_with_interval(found.mean, found.interval)
        lines.append((comparison, f"{name}, {decoding}", str(len(known)), points, f"{found.p_value:.3f}"))
    return markdown_table(("comparison", "measured", "questions", "points [95 %]", "p"), lines)


def _decodings(rows: Sequence[Row]) -> list[str]:
    """Those that all of the evaluations have."""
    return [decoding for decoding in DECODINGS if all(decoding in row["scores"] for row in rows)]


_INTRODUCTION = """\
SmolLM2-135M-Instruct on HotpotQA and 2Wiki after a cold start of 64 demonstrations, 10 steps of 32 episodes, dev
questions ([how, and its curves](results/real_model.md)). Intervals are over the questions alone: {seeds} seeds say
little about others.
"""
