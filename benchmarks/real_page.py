"""A real model's run as a section of a results page, and its curves as a picture.

`python -m benchmarks.real_page DIR --markdown FILE --picture FILE`; DIR is the folder of `train_scripts/real.sh`. What
is not finished is left out: an evaluation that is missing has no line; a training has its curve from the first step on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.results.numbers import distance_of_engine
from benchmarks.results.page import markdown_table, replace_section, section_parser
from eval.real_report import (
    COMPARED,
    STAGES,
    START,
    Training,
    places_table,
    seeds_table,
    summarize,
    trainings_in,
    variants_table,
)
from eval.results.comparison import ComparedFile, Comparison
from eval.results.folder import SCORES_FILE, EvaluationFolder
from eval.results.folder_summary import DECODINGS
from eval.results.scores import percent, percent_with_interval
from foundation.cli import run_command
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.run.episode_log import read_episodes
from r1_searcher.run.episode_record import EpisodeRecord
from r1_searcher.run.metrics_log import metrics_so_far
from r1_searcher.run.run_config import RunConfig
from r1_searcher.run.run_folder import RunFolder

CURVES = {
    "answer/f1": "answer F1",
    "reward": "mean reward",
    "format/rate": "format rate",
    "retrieval/searches": "searches",
}
RATES = {
    "retrieval_rate": "retrieval %",
    "format_rate": "format %",
    "em": "EM %",
    "cover_em": "cover-EM %",
    "f1": "F1 %",
}
CHANGES = {(0.0, 1.0): "right only afterwards", (1.0, 0.0): "right only before", (0.0, 0.0): "wrong both times"}
"""EM before and after; an episode is shown of each, the first in order of the questions' ids."""
UPDATE = "timing/ppo_train"
LINES = ("-", "--", ":", "-.")
"""Of a training's curve, by seed."""
UNSEEN = "unseen"
"""Folder of further evaluations in the run's, each by the name that it has there (`benchmarks.unseen_questions`)."""
SHOWN_OF_DOCUMENTS = 200
"""Characters."""
WIDTH = 110


@dataclass(frozen=True)
class StageRun:
    """One stage of a training, as far as it has come."""

    name: str
    steps: Sequence[Mapping[str, Any]]
    """Metrics of each step."""
    episodes: int
    """Of a step."""

    @classmethod
    def read(cls, folder: Path, name: str) -> StageRun:
        """The run in `NAME_run`; one that has not begun has no steps."""
        run = RunFolder(folder / f"{name}_run")
        steps = metrics_so_far(run.metrics_file)
        config = RunConfig.read(run.config_file) if steps else None
        return cls(name, steps, config.questions_per_step * config.samples_per_question if config else 0)

    def median(self, metric: str) -> float:
        """Of a metric, over the steps."""
        return statistics.median(step[metric] for step in self.steps)

    @property
    def update_speed(self) -> float:
        """Tokens per second of the update, those of prompts and documents included; median over the steps."""
        return statistics.median(self.episodes * step["total_length"] / step[UPDATE] for step in self.steps)


@dataclass(frozen=True)
class Played:
    """The stages of one training that have begun."""

    training: Training
    stages: Sequence[StageRun]
    before: int = 0
    """Steps of the stage 1 that it went on from, where that is not its own."""

    @property
    def first_stage_ends(self) -> int:
        """The training step after which its stage 2 begins."""
        first = self.stages[0]
        return len(first.steps) if first.name == self.training.stages[0] else self.before

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """Of all stages, in order."""
        return [step for stage in self.stages for step in stage.steps]


def markdown(folder: Path, picture: str) -> str:
    """The section: scores, what each step changed, curves, what a step takes, and episodes before and after."""
    found, dev = read_trainings(folder), summarize(folder)
    parts = ["## Scores\n", _DEV + "\n", *_evaluated(dev)]
    unseen = folder / UNSEEN
    if any(unseen.glob(f"*/{SCORES_FILE}")):
        further = summarize(unseen)
        together = _together({folder: dev["scores"], unseen: further["scores"]})
        parts += ["## Further questions\n", _FURTHER + "\n", *_evaluated(further), *together]
    parts += [
        "## Training\n",
        f"![Training curves]({picture})\n",
        _CURVES + "\n",
        _steps(found) + "\n",
        distance_of_engine(step for each in found for step in each.steps),
    ]
    if episodes := "\n".join(_episodes(folder)):
        parts += ["## Episodes before and after\n", episodes]
    return "\n".join(parts)


def read_trainings(folder: Path) -> list[Played]:
    """The trainings of a real run that have begun, the first one first.

    One without a stage 1 of its own went on from that of the first settings and its seed.
    """
    found = []
    for training in trainings_in(folder):
        stages = [StageRun.read(folder, name) for name in training.stages]
        if begun := [stage for stage in stages if stage.steps]:
            own = begun[0] is stages[0]
            shared = () if own else StageRun.read(folder, Training(seed=training.seed).stages[0]).steps
            found.append(Played(training, begun, len(shared)))
    return found


def _evaluated(summary: Mapping[str, Any]) -> Iterator[str]:
    """Scores, what each step changed, and what is told over seeds and between variants."""
    yield _scores(summary["scores"]) + "\n"
    yield "What each step of the first settings changed, in points, paired by question:\n"
    yield _differences(summary["differences"]) + "\n"
    if summary["seeds"]:
        yield "Over seeds, and their mean against the cold start:\n"
        yield markdown_table(*seeds_table(summary)) + "\n"
    if summary["variants"]:
        yield "Variants against the first settings, the same seeds of both:\n"
        yield markdown_table(*variants_table(summary)) + "\n"
    yield _PLACES + "\n"
    yield markdown_table(*places_table(summary)) + "\n"


def _together(scores: Mapping[Path, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Each variant's last stage against the cold start, over the questions of all folders.

    Args:
        scores: of each folder, by evaluation and decoding.
    """
    trainings = trainings_in(next(iter(scores)))
    starts = {decoding: start for decoding in DECODINGS if (start := _joined(scores, START, decoding))}
    lines = []
    for variant in dict.fromkeys(each.variant for each in trainings):
        ends = [each.stages[-1] for each in trainings if each.variant == variant]
        for decoding, start in starts.items():
            if files := [file for name in ends if (file := _joined(scores, name, decoding))]:
                lines.append([f"{Training(variant).stages[-1]}, {decoding}", *_against(start, files)])
    if lines:
        yield "Dev and further questions together, the mean of the seeds against the cold start, in points:\n"
        heads = ["stage", "questions", "seeds", "format %", "F1 %", "F1", "EM", "p (F1)"]
        yield markdown_table(heads, lines) + "\n"


def _against(start: ComparedFile, others: Sequence[ComparedFile]) -> list[str]:
    """Questions, number of the others, format and F1 of the start and of their mean, change in points with F1's p."""
    files = [start, *others]
    compared = Comparison.of(files, "f1")
    change = compared.difference([start], others)
    points = (percent_with_interval(change[metric]["mean"], change[metric]["interval_95"]) for metric in COMPARED)
    formats = [statistics.fmean(record.metrics["format/rate"] for record in compared.common(file)) for file in files]
    f1 = [statistics.fmean(compared.values(file, "f1")) for file in files]
    levels = (f"{percent(values[0])} → {percent(statistics.fmean(values[1:]))}" for values in (formats, f1))
    return [str(len(compared.keys)), str(len(others)), *levels, *points, f"{change['f1']['p_value']:.3f}"]


def _joined(scores: Mapping[Path, Mapping[str, Mapping[str, Any]]], name: str, decoding: str) -> ComparedFile | None:
    """One model's answers to the questions of all folders, of which none is in two; None where one lacks them."""
    if not all(decoding in found.get(name, ()) for found in scores.values()):
        return None
    files = [ComparedFile.read(name, folder / name, decoding) for folder in scores]
    return replace(files[0], records={key: record for file in files for key, record in file.records.items()})


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    heads = ["model", "decoding", "questions", *RATES.values(), "searches"]
    lines = [
        [name, decoding, str(block["n"]), *_rates(block), f"{block['searches_per_question']:.2f}"]
        for name, blocks in scores.items()
        for decoding, block in blocks.items()
    ]
    return markdown_table(heads, lines)


def _rates(block: Mapping[str, Any]) -> list[str]:
    """Each rate in per cent; F1 with its interval."""
    *rates, f1 = RATES
    return [*(percent(block[name]) for name in rates), percent_with_interval(block[f1], block["interval_95"][f1])]


def _differences(differences: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            f"{each['from']} → {each['to']}",
            each["decoding"],
            *(percent_with_interval(each[metric]["mean"], each[metric]["interval_95"]) for metric in ("f1", "em")),
            f"{each['f1']['p_value']:.3f}",
        ]
        for each in differences
        if not each["variant"]
    ]
    return markdown_table(["from → to", "decoding", "F1", "EM", "p (F1)"], lines)


def _steps(found: Sequence[Played]) -> str:
    """What a step takes in each stage: medians over its steps."""
    heads = [
        "training",
        "steps",
        "episodes of a step",
        "tokens of one",
        "s per step",
        "generation",
        "update",
        "tokens/s",
    ]
    medians = ("total_length", "timing/step_total", "timing/generation", UPDATE)
    lines = [
        [
            stage.name,
            str(len(stage.steps)),
            str(stage.episodes),
            *(f"{stage.median(metric):,.0f}" for metric in medians),
            f"{stage.update_speed:.0f}",
        ]
        for played in found
        for stage in played.stages
    ]
    return markdown_table(heads, lines)


def draw(found: Sequence[Played], path: Path) -> None:
    """One panel per metric, one line per training: a colour by variant; a mark where stage 2 begins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = {variant: f"C{n}" for n, variant in enumerate(dict.fromkeys(each.training.variant for each in found))}
    figure, axes = pyplot.subplots(1, len(CURVES), figsize=(14, 3.4), layout="constrained")
    for axis, (metric, title) in zip(axes, CURVES.items(), strict=True):
        for played in found:
            first, training = 1 + played.before, played.training
            style = {"color": colours[training.variant], "linestyle": LINES[training.seed % len(LINES)]}
            for stage in played.stages:  # a line of its own each: rewards and questions are others
                values = [step[metric] for step in stage.steps]
                (line,) = axis.plot(range(first, first + len(values)), values, marker=".", **style)
                first += len(values)
            line.set_label(training.name or "seed0")
        for border in {played.first_stage_ends for played in found}:
            axis.axvline(border + 0.5, color="0.6", linestyle="--", linewidth=1)
        axis.set(title=title, xlabel="training step (stage 2 right of the line)")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside center right", frameon=False, fontsize=9)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _episodes(folder: Path) -> Iterator[str]:
    """One question of each of `CHANGES`, before the first training and after it, greedy."""
    before, after = (_greedy(EvaluationFolder(folder / name)) for name in (START, STAGES[-1]))
    for (was, now), meaning in CHANGES.items():
        for question in sorted(before.keys() & after.keys()):
            pair = (before[question], after[question])
            if tuple(record.metrics["answer/em"] for record in pair) == (was, now):
                row = pair[0].row
                yield f"**{row.question}** ({' / '.join(row.answers)}; {meaning})\n"
                for name, record in zip(("cold start", "stage 2"), pair, strict=True):
                    yield f"{name}:\n\n```\n{_told(record.trajectory)}\n```\n"
                break


def _greedy(folder: EvaluationFolder) -> dict[str, EpisodeRecord]:
    if not folder.predictions_file.is_file():
        return {}
    records = read_episodes(folder.predictions_file)
    return {record.row.id: record for record in records if record.decoding == DECODINGS[0] and not record.failed}


def _told(trajectory: Trajectory) -> str:
    """What comes after the prompt, documents cut short."""
    texts = [
        textwrap.shorten(span.text, SHOWN_OF_DOCUMENTS, placeholder=" …")
        if span.kind is SpanKind.DOCUMENTS
        else span.text
        for span in trajectory.spans
        if span.kind is not SpanKind.PROMPT
    ]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return "\n".join("\n".join(textwrap.wrap(line, WIDTH)) for line in lines)


_DEV = """\
The questions of `dev.jsonl`, on which nothing was trained. Intervals of 95 % are over the questions (differences:
bootstrap, with the permutation test's p); they say nothing about other seeds.
"""

_FURTHER = """\
Questions of `train.jsonl` that were neither demonstrated nor drawn in any training (`benchmarks.unseen_questions`), for
narrower intervals.
"""

_PLACES = """\
Where a gold answer stands as whole words, the first that applies: it is yes or no, it is in the question, it is in what
the model was shown, nowhere. Number of questions, and their F1 in per cent.
"""

_CURVES = """\
Of what is trained on. Stage 1 pays for searching and the format, stage 2 for the answer's F1. In a stage that filters,
questions whose samples are all worth the same are replaced by others: its curves are of the questions that the policy
answers now and then, and need not rise while it gets better. *tokens/s* is the update's, over prompts, documents and
actions; the times are medians over the steps, on a machine that did other work in some of them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = section_parser("benchmarks.real_page", __doc__)
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args(argv)
    return run_command("benchmarks.real_page", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    section = markdown(options.folder, options.picture.name)
    draw(read_trainings(options.folder), options.picture)
    replace_section(options.markdown, "real run", section)


if __name__ == "__main__":
    sys.exit(main())
