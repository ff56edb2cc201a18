"""A real model learns to search on real text: from a published model to a table, by one command.

    python -m eval.real_run --data DIR

DIR holds `passages.jsonl` (id, title, text), `train.jsonl` and `dev.jsonl` (id, question, answers) and
`transcripts.jsonl` (question, answer, completion: of a bigger model, in R1-Searcher's tags). Model, index, baselines,
cold start, stage 1, stage 2, evaluations and report follow one another; interrupted, the same command continues.
Options that are not ours go to the training of both stages. Another --seed, or another --variant, trains once more from
the same cold start: its runs and evaluations stand beside the first ones, and in the same table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eval.phases import SEARCH, Ledger, Phase, PhaseFailed, play_phases
from eval.play.contestant import find_contestant
from eval.real_report import BASELINES, STAGES, Training
from foundation.cli import BAD_INPUT, OneLineParser, expected, natural, run_command
from foundation.errors import InputError
from foundation.files import file_sha256, text_sha256
from foundation.json_lines import numbered_lines
from r1_searcher.host.command import check_data_path
from r1_searcher.host.device import Device, detect
from r1_searcher.launch.playground import RUNS
from r1_searcher.launch.services import Services
from r1_searcher.recipe.presets import ColdStart, Preset, find_preset, is_file_name, words_of
from r1_searcher.run.run_folder import RunFolder

FILES = {
    "passages.jsonl": "id, title, text",
    "train.jsonl": "id, question, answers",
    "dev.jsonl": "id, question, answers; never trained on",
    "transcripts.jsonl": "question, answer, completion",
}
"""What the data folder holds, and the keys of its rows."""
SEARCHES_OF_A_DEMONSTRATION = ("1", "3")
ENCODER, ENCODER_PACKAGE = "all-MiniLM-L6-v2", "all-minilm-l6-v2"
"""Of hybrid retrieval: for the index, and as `data_prep.pretrained` takes it."""
SECONDS_OF_A_STEP = 130
"""Of a stage of the preset `real`, with both cores of a machine that has AMX."""
BASELINE_TURN = 256
"""Tokens of a baseline's turn: a model that was not taught to be short must be able to end its thought."""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    questions: int | None = None
    """Dev questions of each evaluation; None: all."""
    demonstrations: int | None = None
    """None: as many as the preset says."""
    steps: int | None = None
    """Of each stage; None: as the preset says, and so for the next."""
    questions_per_step: int | None = None
    factor: float = 1.0
    """Of the seconds that a whole run's phase takes; a stage's follow its steps."""


FULL, QUICK = Size(), Size(questions=12, demonstrations=32, steps=2, questions_per_step=4, factor=0.12)


@dataclass(frozen=True)
class RealRun:
    """One run, its folder, its data and its preset."""

    out: Path
    data: Path
    preset: Preset
    size: Size = FULL
    seed: int = 0
    """Of both stages."""
    variant: str = ""
    """Of the training: the name of what differs from the first one."""
    training_options: tuple[str, ...] = ()
    source: str = ""
    """The published model instead of the preset's."""
    tags: bool = False
    """Whether the protocol's tags become special tokens before the cold start."""
    hybrid: bool = False
    """Whether an encoder's ranking is fused with BM25's."""
    preset_name: str = ""
    """As `r1_searcher.train` takes it: of a shipped one, or the path of a file; default the preset's own."""

    def phases(self) -> list[Phase]:
        """All phases, in order. Seconds are about what two cores with AMX take."""
        return [*self._checks(), *self._preparation(), *self._before(), *self._training(), *self._results()]

    def _checks(self) -> Iterator[Phase]:
        """That both stages take their options is seen before hours of work, not after."""
        for stage in STAGES:
            run = self.out / f"{self._trained.stage(stage)}_run"
            words = self._stage(stage, self.cold, run, search="http://127.0.0.1:1")
            yield Phase(f"options of {stage}", 10, "r1_searcher.train", (*words, "--dry-run"), self._digest(stage))

    def _preparation(self) -> Iterator[Phase]:
        pretrained = str(self.out / "pretrained")
        yield Phase("model", 60, "data_prep.pretrained", (self.source or self._cold_start.source, "--out", pretrained))
        if self.tags:
            tagged = (pretrained, "--protocol", "r1_searcher.chat", "--out", str(self._start_model))
            yield Phase("tags", 20, "data_prep.add_tags", tagged)
        words: tuple[str, ...] = ("--corpus", str(self.data / "passages.jsonl"), "--out", str(self.index))
        if self.hybrid:
            yield Phase("encoder", 20, "data_prep.pretrained", (ENCODER_PACKAGE, "--out", str(self._encoder)))
            vectors = ("--encoder", ENCODER, "--encoder-path", str(self._encoder))
            words += ("--backend", "hybrid", *vectors)
        else:
            words += ("--backend", "bm25")
        seconds = 300 if self.hybrid else 15
        yield Phase("index", seconds, "retriever.build", words, self._sha256("passages.jsonl"))

    def _before(self) -> Iterator[Phase]:
        """What the model can do without training."""
        for name in BASELINES:
            yield self._evaluation(f"baseline {name}", name, self._start_model, f"baseline.{name}")
        yield self._evaluation("evaluate base", "base", self._start_model)

    def _training(self) -> Iterator[Phase]:
        """Cold start and both stages, an evaluation after each."""
        shown = self._demonstrations()
        yield Phase("demonstrations", 60, "data_prep.good_trajectories", shown, self._sha256("transcripts.jsonl"))
        places = ("--data", str(self.out / "cold_start.jsonl"), "--out", str(self.cold))
        flags = words_of(self._cold_start.flags)
        fine_tuning = ("--model", str(self._start_model), *places, *flags)
        yield Phase("cold start", 230 * self.size.factor, "r1_searcher.sft", fine_tuning)
        yield self._evaluation("evaluate cold start", "cold", self.cold)
        before = self.cold
        for stage in STAGES:
            name = self._trained.stage(stage)
            run = RunFolder(self.out / f"{name}_run")
            words = self._stage(stage, before, run.path)
            yield Phase(name, self._stage_seconds(stage), "r1_searcher.train", words, self._digest(stage))
            yield self._evaluation(f"evaluate {name}", name, run.model)
            before = run.model

    def _results(self) -> Iterator[Phase]:
        yield Phase("table", 5, "eval.real_report", (str(self.out),), sums_up=True)
        yield Phase("report", 20, "eval.report", (str(self.out),), sums_up=True)

    @property
    def _trained(self) -> Training:
        return Training(self.variant, self.seed)

    @property
    def served(self) -> tuple[str, ...]:
        """Options of the search service; its encoder leaves the GPUs to the policy."""
        encoder = ("--encoder-path", str(self._encoder), "--device", "cpu") if self.hybrid else ()
        return ("--index", str(self.index), *encoder)

    @property
    def index(self) -> Path:
        """The saved index."""
        return self.out / "index"

    @property
    def _encoder(self) -> Path:
        return self.out / "encoder"

    @property
    def cold(self) -> Path:
        """The model after the cold start."""
        return self.out / "cold_start"

    @property
    def _cold_start(self) -> ColdStart:
        if self.preset.cold_start is None:
            raise InputError(f"the preset {self.preset.name} has no cold start; take real, or one that extends it")
        return self.preset.cold_start

    @property
    def _recipe(self) -> str:
        """The recipe that everything is judged by."""
        return self.preset.stage("stage2").recipe

    @property
    def _length(self) -> tuple[str, ...]:
        """Of an episode, where the preset trains with another than its recipe's."""
        length = self.preset.flags.get("data", {}).get("max_len")
        return () if length is None else ("--max-length", str(length))

    @property
    def _start_model(self) -> Path:
        return self.out / ("tagged" if self.tags else "pretrained")

    def _evaluation(self, phase: str, folder: str, model: Path, recipe: str = "") -> Phase:
        """Greedy and sampled answers to the dev questions, as stage 2 plays or as a baseline within its lengths."""
        asked = ("--recipe", recipe or self._recipe, "--model", str(model), "--data", str(self.data / "dev.jsonl"))
        contestant = find_contestant(recipe or self._recipe)
        search = ("--search", SEARCH) if contestant.searches else ()
        words = [*asked, *search, "--out", str(self.out / folder), "--also-sampled"]
        if self.size.questions:
            words += ["--limit", str(self.size.questions)]
        if not recipe:
            words += self._length
        else:
            turn = str(min(BASELINE_TURN, contestant.recipe.limits.turn_tokens))
            words += ["--max-length", "2048", "--turn-tokens", turn, "--answer-tokens", "64", "--top-k", "2"]
        return Phase(phase, 160 * self.size.factor, "eval.run", tuple(words), self._sha256("dev.jsonl"))

    def _demonstrations(self) -> tuple[str, ...]:
        cold = self._cold_start
        chosen = ("--from-protocol", "r1_searcher.base", "--reward", "r1_searcher.stage2_em", "--min-reward", "1")
        few = ("--searches", *SEARCHES_OF_A_DEMONSTRATION, "--per-question", "1", "--shortest")
        number = ("--episodes", str(self.size.demonstrations or cold.episodes), "--thoughts", cold.thoughts)
        places = ("--model", str(self._start_model), "--out", str(self.out / "cold_start.jsonl"))
        target = ("--recipe", self._recipe, *self._length)
        return (str(self.data / "transcripts.jsonl"), *chosen, *few, *number, *target, *places)

    def _stage(self, stage: str, start: Path, run: Path, search: str = SEARCH) -> tuple[str, ...]:
        name = self.preset_name or self.preset.name
        chosen = ("--preset", name, "--stage", stage, "--seed", str(self.seed))
        places = ("--run-dir", str(run), "--data", str(self.data / "train.jsonl"))
        model = ("--actor.model_name_or_path", str(start))
        return (*chosen, *places, *model, "--search", search, *self._few(), *self.training_options)

    def _stage_seconds(self, stage: str) -> float:
        """About what its steps take."""
        questions = int(self.preset.flags["rollout"]["batch_size"])
        share = (self.size.questions_per_step or questions) / questions
        return SECONDS_OF_A_STEP * self._steps(stage) * share

    def _steps(self, stage: str) -> int:
        """As many as are asked for, or whole rollouts of the questions that the stage takes, as `Extent` has them."""
        asked = self.preset.stage(stage)
        if steps := self.size.steps or asked.max_steps:
            return steps
        flags = self.preset.flags_of(asked)
        questions = sum(1 for _ in numbered_lines(self.data / "train.jsonl"))
        taken = min(questions, flags.get("data", {}).get("max_samples", questions))
        return taken // flags["rollout"]["batch_size"] * flags["train"]["num_episodes"]

    def _digest(self, stage: str) -> str:
        """Of what the preset says of a stage, and of the questions."""
        preset = self.preset
        what = [preset.flags, msgspec.to_builtins(preset.stage(stage)), self._sha256("train.jsonl")]
        return text_sha256(json.dumps(what, sort_keys=True, default=str))

    def _sha256(self, name: str) -> str:
        return file_sha256(self.data / name)

    def _few(self) -> Iterator[str]:
        """Options of a training that is smaller than the preset's."""
        if steps := self.size.steps:
            yield from ("--max-steps", str(steps))
        if questions := self.size.questions_per_step:
            samples = int(self.preset.flags["rollout"]["n_samples_per_prompt"])
            yield from ("--rollout.batch_size", str(questions), "--train.batch_size", str(questions * samples))


def check_data(folder: Path | None) -> Path:
    """The data folder, if it holds what a run needs. Raises `InputError`."""
    layout = "; ".join(f"{name} ({keys})" for name, keys in FILES.items())
    if folder is None:
        raise InputError(f"no data: give --data DIR, a folder with {layout}; docs/real_models.md says how to make one")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}; expected {layout}")
    return folder.resolve()


def check_device(preset: Preset) -> None:
    """Refuse a preset for GPUs where there is none, before a model is fetched and evaluated. Raises `InputError`."""
    if preset.device == Device.CUDA.value and detect()[0] is not Device.CUDA:
        raise InputError(f"the preset {preset.name} needs a GPU, and there is none; without --preset, real is used")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the status is that of the phase that failed."""
    options, training_options = _parser().parse_known_args(argv)
    return run_command("real", lambda: _run(options, training_options), resumable=True)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="real", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="folder of passages, questions and transcripts")
    add("--out", type=Path, help="folder of the results; default: runs/real, or by the options' names")
    add("--preset", default="real", help="with a cold start and two stages (default real)")
    add(
        "--model",
        default="",
        metavar="SOURCE",
        help="published model instead of the preset's: see data_prep.pretrained",
    )
    add("--tags", action="store_true", help="make the protocol's tags special tokens before the cold start")
    add("--retrieval", choices=("bm25", "hybrid"), default="bm25", help="hybrid: with all-MiniLM-L6-v2 (default bm25)")
    add("--quick", action="store_true", help="some 15 minutes: shows that everything runs, and learns little")
    add("--seed", type=natural, default=0, help="of the training (default 0)")
    add(
        "--variant",
        default="",
        metavar="NAME",
        help="name of a further training whose options differ, e.g. --variant no_mask --no-document-mask",
    )
    return parser


def _folder(options: argparse.Namespace) -> Path:
    """The folder of the results: one for each preset, retrieval and size."""
    parts = (
        Path(options.preset).stem if is_file_name(options.preset) else options.preset,
        options.retrieval if options.retrieval != "bm25" else "",
        "quick" if options.quick else "",
    )
    named: Path = options.out or RUNS / "_".join(filter(None, parts))
    return named.resolve()


def _run(options: argparse.Namespace, training_options: Sequence[str]) -> int | None:
    real = RealRun(
        out=_folder(options),
        data=check_data(options.data),
        preset=find_preset(options.preset),
        preset_name=str(Path(options.preset).resolve()) if is_file_name(options.preset) else options.preset,
        size=QUICK if options.quick else FULL,
        seed=options.seed,
        variant=options.variant,
        training_options=tuple(training_options),
        source=options.model,
        tags=options.tags,
        hybrid=options.retrieval == "hybrid",
    )
    if not re.fullmatch(r"\w*", real.variant):
        raise InputError(f"--variant must be one word of letters, digits and _, found {real.variant!r}")
    if Training.named(real.variant) != Training(real.variant):
        raise InputError(f"--variant {real.variant} is what another --seed is called; give --seed, or another name")
    phases, out = real.phases(), real.out
    check_data_path("--out", out)
    check_device(real.preset)
    with expected(OSError):
        out.mkdir(parents=True, exist_ok=True)
    with Services() as services:
        addresses: list[str] = []

        def search() -> str:
            if not addresses:
                addresses.append(services.start("retriever", "retriever.server", *real.served))
            return addresses[0]

        try:
            play_phases(phases, Ledger(out / "phases.jsonl"), search)
        except PhaseFailed as failure:
            if failure.status != BAD_INPUT:
                print(f"real: the same command continues here; finished phases are kept in {out}", file=sys.stderr)
            return failure.status
    return None


if __name__ == "__main__":
    sys.exit(main())
