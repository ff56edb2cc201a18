"""What a real run changed: `python -m eval.real_report DIR`.

Reads the folder of `eval.real_run`, prints the scores of every evaluation in it and the paired differences from one
step to the next, and writes both into `summary.json`. Intervals are over the questions: they say nothing about other
seeds.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.compare import compare
from eval.phases import Ledger
from eval.results.answer_place import AnswerPlace, scores_by_place
from eval.results.comparison import ComparedFile, Comparison
from eval.results.folder import SCORES_FILE
from eval.results.folder_summary import DECODINGS, join_tables, summary_command
from eval.results.predictions import by_decoding, read_predictions
from eval.results.recorded import recorded_system
from eval.results.scores import Scores, percent, percent_with_interval, scores_table
from foundation.errors import InputError
from foundation.files import read_json
from foundation.text_table import format_table
from r1_searcher.run.run_folder import RunFolder

BASELINES = ("direct", "direct_rag", "closed_book", "rag", "prompted_search")
"""Of `eval.play.contestant.BASELINES`: the model as it comes."""
START, STAGES = "cold", ("stage1", "stage2")
"""Where every training starts, and its stages."""
STEPS = ("base", START, *STAGES)
"""Evaluations of one model after the other, each compared with the one before."""
COMPARED = ("f1", "em")
OF_ONE_RUN = ("--train.seed", "--train.agent", "--data.prompt_dataset", "--actor.model", "--ckpt.", "--logger.")
"""How flags begin that differ between runs of the same settings."""


@dataclass(frozen=True, order=True)
class Training:
    """One training from the cold start: what differs from the first one, and its seed."""

    variant: str = ""
    """Of `train_scripts/real.sh`; the first one has none."""
    seed: int = 0

    @classmethod
    def named(cls, name: str) -> Training:
        """The reverse of `name`."""
        *words, last = name.split("_")
        seed = re.fullmatch(r"seed(\d+)", last)
        return cls("_".join(words), int(seed[1])) if seed else cls(name)

    @property
    def name(self) -> str:
        """`no_mask_seed1`; of the first training it is empty."""
        return "_".join(filter(None, (self.variant, f"seed{self.seed}" if self.seed else "")))

    def stage(self, stage: str) -> str:
        """The name of one of its stages, as its run and its evaluation have it."""
        return f"{self.name}.{stage}" if self.name else stage

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of its stages."""
        return tuple(self.stage(stage) for stage in STAGES)


def trainings_in(folder: Path) -> list[Training]:
    """The first training, and every further one from the same start."""
    places = (path for stage in STAGES for kind in ("", "_run") for path in folder.glob(f"*.{stage}{kind}"))
    return sorted({Training(), *(Training.named(path.stem) for path in places if path.is_dir())})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; a missing file is one line on stderr and status 2."""
    return summary_command("eval.real_report", __doc__, argv, summarize, report)


def summarize(folder: Path) -> dict[str, Any]:
    """Scores by evaluation and decoding, differences of neighbouring steps, and the seconds of each phase.

    Of the trained models and the model as it comes, also where the answers stood.

    Raises:
        InputError: there is no evaluation, or one cannot be read.
    """
    trainings = trainings_in(folder)
    known = (*BASELINES, *STEPS, *(stage for training in trainings[1:] for stage in training.stages))
    names = [name for name in known if (folder / name / SCORES_FILE).is_file()]
    if not names:
        raise InputError(f"{folder} holds no evaluation; expected the folder of train_scripts/real.sh")
    scores = {name: Scores.read(folder / name / SCORES_FILE).blocks for name in names}
    pairs: dict[tuple[str, str], str] = {}
    for training in trainings:
        before = STEPS if training == Training() else (START, *training.stages)
        steps = [name for name in before if name in names]
        whole = [(START, training.stages[-1])] if {START, training.stages[-1]} <= set(steps) else []
        pairs |= dict.fromkeys([*itertools.pairwise(steps), *whole], training.variant)
    differences = [
        {
            "variant": variant,
            "from": first,
            "to": second,
            "decoding": decoding,
            **_difference(folder / first, folder / second, decoding),
        }
        for decoding in DECODINGS
        for (first, second), variant in pairs.items()
        if decoding in scores[first] and decoding in scores[second]
    ]
    return {
        "scores": scores,
        "differences": differences,
        "seeds": _over_seeds(folder, trainings, scores),
        "variants": _between_variants(folder, trainings, scores),
        "places": {name: _places(folder / name) for name in names if name not in BASELINES},
        "seconds": Ledger(folder / "phases.jsonl").seconds(),
    }


def _over_seeds(
    folder: Path, trainings: Sequence[Training], scores: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each stage's scores by seed, where there are trainings that differ by nothing else."""
    found = []
    for variant, stage in itertools.product(dict.fromkeys(each.variant for each in trainings), STAGES):
        names = [each.stage(stage) for each in trainings if each.variant == variant and each.stage(stage) in scores]
        names = [name for name in names if _settings(folder, name) == _settings(folder, names[0])]
        for decoding in DECODINGS if len(names) > 1 else ():
            if played := [name for name in names if decoding in scores[name]]:
                values = {metric: [scores[name][decoding][metric] for name in played] for metric in COMPARED}
                change = _mean_change(folder, [START], played, decoding)
                what = {"variant": variant, "stage": stage, "decoding": decoding}
                found.append({**what, "n": len(played), **values, "change": change})
    return found


def _between_variants(
    folder: Path, trainings: Sequence[Training], scores: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """How much each variant is above the first settings, by stage: means over the seeds that both have."""
    found = []
    variants = dict.fromkeys(each.variant for each in trainings if each.variant)
    for variant, stage, decoding in itertools.product(variants, STAGES, DECODINGS):
        pairs = [
            (Training(seed=each.seed).stage(stage), each.stage(stage)) for each in trainings if each.variant == variant
        ]
        pairs = [pair for pair in pairs if all(decoding in scores.get(name, ()) for name in pair)]
        if pairs:
            first, others = zip(*pairs, strict=True)
            change = _mean_change(folder, first, others, decoding)
            found.append({"variant": variant, "stage": stage, "decoding": decoding, "n": len(pairs), "change": change})
    return found


def _mean_change(folder: Path, first: Sequence[str], others: Sequence[str], decoding: str) -> Mapping[str, Any]:
    """By metric, how much the mean of the others is above that of the first; empty where one of these is missing."""
    if any(not (folder / name / SCORES_FILE).is_file() for name in first):
        return {}
    before, after = ([ComparedFile.read(name, folder / name, decoding) for name in names] for names in (first, others))
    return Comparison.of([*before, *after], "f1").difference(before, after)


def _places(evaluation: Path) -> dict[str, Any]:
    """By decoding and place, how many questions could have had their answer from there, and their F1."""
    system = recorded_system(evaluation)
    if system is None:
        return {}
    groups = by_decoding(read_predictions(evaluation))
    found = {decoding: scores_by_place(records, system.protocol) for decoding, records in groups.items()}
    return {
        decoding: {place.value: asdict(score) for place, score in places.items()} for decoding, places in found.items()
    }


def _settings(folder: Path, stage: str) -> Any:
    """What a stage was trained with, but for its seed and where its files lie; None where nothing says it."""
    file = RunFolder(folder / f"{stage}_run").identity_file
    if not file.is_file():
        return None
    identity = read_json(file)
    flags = {flag: value for flag, value in identity["flags"].items() if not flag.startswith(OF_ONE_RUN)}
    return {**identity, "flags": flags}


def _difference(first: Path, second: Path, decoding: str) -> Mapping[str, Any]:
    (pair,) = compare([first, second], "f1", decoding)["pairs"]
    return {"n": len(pair["wins"]) + len(pair["losses"]) + pair["ties"], **pair["difference"]}


def report(summary: Mapping[str, Any]) -> str:
    """The tables as text."""
    parts = []
    for decoding in DECODINGS:
        found = {name: blocks[decoding] for name, blocks in summary["scores"].items() if decoding in blocks}
        if found:
            parts.append(f"dev questions, {decoding}\n\n{scores_table(found)}")
    if summary["differences"]:
        lines = [
            [f"{each['from']} to {each['to']}, {each['decoding']}", *(_points(each[metric]) for metric in COMPARED)]
            for each in summary["differences"]
        ]
        header = ["points, paired [95 %]", *(metric.upper() for metric in COMPARED)]
        parts.append(f"what each step changed (intervals over questions)\n\n{format_table(header, lines)}")
    if summary["seeds"]:
        parts.append(f"over seeds; their mean against the cold start, paired\n\n{format_table(*seeds_table(summary))}")
    if summary["variants"]:
        parts.append(f"variants against the first settings, paired\n\n{format_table(*variants_table(summary))}")
    if summary["places"]:
        parts.append(f"where the answer stood: questions, and their F1 %\n\n{format_table(*places_table(summary))}")
    return join_tables(parts, summary["seconds"])


def seeds_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the stages' scores over seeds, and of their mean's change against the cold start."""
    names = [metric.upper() for metric in COMPARED]
    heads = [*(f"{name} %, mean (least to highest)" for name in names), *(f"{name}, points [95 %]" for name in names)]
    lines = [
        [
            _stage_and_decoding(each),
            str(each["n"]),
            *(_mean(each[metric]) for metric in COMPARED),
            *(_points(each["change"][metric]) if each["change"] else "-" for metric in COMPARED),
        ]
        for each in summary["seeds"]
    ]
    return ["stage", "seeds", *heads], lines


def variants_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of how much each variant is above the first settings."""
    lines = [
        [_stage_and_decoding(each), str(each["n"]), *(_points(each["change"][metric]) for metric in COMPARED)]
        for each in summary["variants"]
    ]
    return ["variant", "seeds", *(f"{metric.upper()}, points [95 %]" for metric in COMPARED)], lines


def places_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of how many questions could be answered from where, and how well they were."""
    lines = [
        [f"{name}, {decoding}", *(f"{places[place]['n']}: {percent(places[place]['f1'])}" for place in AnswerPlace)]
        for name, found in summary["places"].items()
        for decoding, places in found.items()
    ]
    return ["model", *AnswerPlace], lines


def _stage_and_decoding(each: Mapping[str, Any]) -> str:
    return f"{Training(each['variant']).stage(each['stage'])}, {each['decoding']}"


def _mean(values: Sequence[float]) -> str:
    return f"{percent(fmean(values))} ({percent(min(values))} to {percent(max(values))})"


def _points(found: Mapping[str, Any]) -> str:
    return f"{percent_with_interval(found['mean'], found['interval_95'])} p {found['p_value']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
