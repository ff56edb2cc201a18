"""One arm for one seed: its world, its training, its evaluations, its row. Killed at any moment, it continues.

What arms of a seed share is made once: the base model, the world, and the services, which run as long as the seed is
being played.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.findings.arms import Arm, find_arm
from benchmarks.findings.commands import Commands
from benchmarks.findings.corpora import corpus_of
from benchmarks.findings.questions import questions_of
from benchmarks.findings.rows import RESULTS, Row, curves_of, scores_of
from eval.phases import SEARCH, Ledger, Phase, play_phase
from eval.results.fingerprint import model_fingerprint
from foundation.errors import InputError
from foundation.files import read_json, write_json
from r1_searcher.launch.playground import RUNS, make_base, make_world, model_of, start_simulator, world_of
from r1_searcher.launch.services import Services
from r1_searcher.recipe.presets import PROJECT, Preset, find_preset
from r1_searcher.run.run_folder import RunFolder

FOLDER = RUNS / "findings"
TRAINING_SECONDS, EVALUATION_SECONDS = 350.0, 23.0
"""Of a run of 75 steps, and of one evaluation in both ways of sampling, on two cores that have nothing else to do.

The quickstart's: 75 s until the first step, 3.5 s for each, 10 s at the end.
"""
SFT_FLAGS = ("--train.batch_size", "12", "--train.micro_batch_size", "12", "--train.max_epochs", "3",
             "--adam.lr", "7e-4", "--lr_warmup_ratio", "0.1")  # fmt: skip
"""Those of `benchmarks/rejection_sampling.sh`."""
TRAINING_CORPUS, EVALUATION_CORPUS = "corpus_train.jsonl", "corpus.jsonl"
STAGES_RECIPE = "tiny.auto"
EVALUATION_RECIPE = "tiny.stage2"
"""The recipe by which a base model of the two-stage recipe is evaluated."""


class Seed:
    """What the arms of one seed share, as long as they are played.

    `prepare` makes and starts what an arm needs, in the main thread, where an interruption ends what is being made;
    the plays then only ask for addresses.
    """

    def __init__(self, seed: int, services: Services) -> None:
        self.seed = seed
        self._services = services
        self._urls: dict[tuple[Path, str], str] = {}
        self._made: set[str] = set()
        self._simulated = ""

    def prepare(self, arm: Arm) -> None:
        """Make world and base model where they are missing, and start the search services of training and evaluation.

        Raises:
            InputError: the arm cannot be played like this.
            RunAborted: something did not start.
        """
        preset = find_preset(arm.preset_file)
        world = self.world(preset)
        self.training_search(arm, preset, world)
        for kind in arm.evaluated:
            self.search(world / EVALUATION_CORPUS, kind)

    def world(self, preset: Preset) -> Path:
        """The world of the preset's difficulty, made where it is missing, and the base model with it."""
        assert preset.tiny is not None
        folder = world_of(self.seed, preset.tiny.world)
        if preset.name not in self._made:
            make_base(preset)
            make_world(folder, self.seed, setting=preset.tiny.world)
            self._made.add(preset.name)
        return folder

    def training_search(self, arm: Arm, preset: Preset, world: Path) -> str:
        """The address that an arm's training searches; empty where nothing is trained in the world."""
        if arm.noise:
            return self.simulator(preset, arm.noise)
        return self.search(world / TRAINING_CORPUS, arm.searched) if arm.trained and not arm.taught_by else ""

    def search(self, corpus: Path, kind: str) -> str:
        """The address of a BM25 server over this kind of a corpus."""
        if (corpus, kind) not in self._urls:
            file = corpus_of(corpus, kind, self.seed)
            name = f"{corpus.parent.name}_{corpus.stem}_{kind}"
            self._urls[corpus, kind] = self._services.start(
                name, "retriever.server", "--corpus", str(file), "--backend", "bm25"
            )
        return self._urls[corpus, kind]

    def simulator(self, preset: Preset, noise: str) -> str:
        """The simulated engine with this noise."""
        if preset.tiny is None or preset.tiny.simulator is None:
            raise InputError(f"the preset {preset.name} has no simulated engine")
        if not self._simulated:
            self._simulated = start_simulator(self._services, preset.tiny.simulator, self.seed)
        return self._simulated.replace(f"noise={preset.tiny.simulator.noise}", f"noise={noise}")


@dataclass(frozen=True)
class Play:
    """One arm and one seed."""

    arm: Arm
    seed: int
    root: Path = FOLDER

    @property
    def folder(self) -> Path:
        """Everything of it; other settings have another folder."""
        return self.root / f"{self.arm.name}-{self.arm.digest}" / f"seed{self.seed}"

    @property
    def output(self) -> Path:
        """What its commands say."""
        return self.folder / "output.log"

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.arm.name}"

    @property
    def run_folder(self) -> Path:
        """The training run; of an arm that is taught by another, the other's."""
        teacher = self.arm.taught_by
        return Play(find_arm(teacher), self.seed, self.root).folder / "run" if teacher else self.folder / "run"

    def run(self, shared: Seed, commands: Commands) -> Row:
        """Play what is not done yet; gives the row. What it needs is prepared.

        Raises:
            PhaseFailed: a command failed; the same call continues with it.
            InputError: the arm cannot be played like this.
        """
        preset = find_preset(self.arm.preset_file)
        world, base = shared.world(preset), model_of(preset)
        self.folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(self.folder / "phases.jsonl")
        begun = self._begun()
        for phase, search in self._phases(shared, preset, world, base):
            if not ledger.holds(phase):
                play_phase(phase, ledger, search, partial(commands.run, output=self.output))
        return {
            "arm": self.arm.name,
            "seed": self.seed,
            "settings": self.arm.digest,
            "run": str(self.folder.relative_to(self.root)),
            "commit": begun["commit"],
            "world": _world_digest(world),
            "base": model_fingerprint(base)[:12],
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "started": begun["started"],
            "seconds": ledger.seconds(),
            "curves": curves_of(self.folder / "run"),
            "heldout": {kind: scores_of(self.folder / f"heldout_{kind}") for kind in self.arm.evaluated},
        }

    def _begun(self) -> Row:
        """When it was begun, and by which code; a call that continues it changes neither."""
        file = self.folder / "begun.json"
        if not file.is_file():
            write_json(file, {"commit": _commit(), "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        return read_json(file)

    def _phases(
        self, shared: Seed, preset: Preset, world: Path, base: str
    ) -> Sequence[tuple[Phase, Callable[[], str]]]:
        """The commands in their order, each with what starts its search service."""
        phases: list[tuple[Phase, Callable[[], str]]] = []
        if self.arm.taught_by:
            phases += [(phase, str) for phase in self._teaching(base)]
        elif self.arm.trained:
            searched = partial(shared.training_search, self.arm, preset, world)
            phases.append((self._training(preset, world, base), searched))
        for kind in self.arm.evaluated:
            searched = partial(shared.search, world / EVALUATION_CORPUS, kind)
            phases.append((self._evaluation(kind, preset, world, base), searched))
        return phases

    def _training(self, preset: Preset, world: Path, base: str) -> Phase:
        data = questions_of(world / preset.stage(self.arm.stage).data, self.arm.asked, self.folder / "questions.jsonl")
        chosen = ("--preset", self.arm.preset_file, "--stage", self.arm.stage, "--seed", str(self.seed))
        places = ("--run-dir", str(self.folder / "run"), "--data", str(data), "--search", SEARCH)
        options = [word.replace("{base}", base) for word in self.arm.options]
        return Phase("training", TRAINING_SECONDS, "r1_searcher.train", (*chosen, *places, *options))

    def _teaching(self, base: str) -> list[Phase]:
        data = str(self.folder / "sft.jsonl")
        choice = ("--model", base, "--min-reward", "1.0", "--per-question", "2", "--out", data)
        flags = ("--model", base, "--data", data, "--out", str(self.folder / "model"), *SFT_FLAGS)
        return [
            Phase("episodes", 10.0, "data_prep.good_trajectories", (str(self.run_folder), *choice)),
            Phase("training", TRAINING_SECONDS, "r1_searcher.sft", flags),
        ]

    def _evaluation(self, kind: str, preset: Preset, world: Path, base: str) -> Phase:
        if self.arm.trained:
            model = self.folder / "model" if self.arm.taught_by else RunFolder(self.folder / "run").model
            played = ("--like", str(self.run_folder), "--model", str(model))
        else:
            recipe = preset.stage(self.arm.stage).recipe
            played = ("--recipe", EVALUATION_RECIPE if recipe == STAGES_RECIPE else recipe, "--model", base)
        asked = ("--data", str(world / "heldout.jsonl"), "--search", SEARCH)
        out = ("--out", str(self.folder / f"heldout_{kind}"), "--also-sampled")
        return Phase(f"evaluation ({kind})", EVALUATION_SECONDS, "eval.run", (*played, *asked, *out))


def _commit() -> str:
    """The commit that is checked out, with a + where files other than rows differ; empty outside of a repository."""

    def git(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)
        return found.stdout.strip() if found.returncode == 0 else ""

    commit = git("rev-parse", "--short=10", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":!/{RESULTS.relative_to(PROJECT)}")
    return f"{commit}+" if commit and changed else commit


def _world_digest(world: Path) -> str:
    """Twelve digits that change with any file of a world."""
    manifest = msgspec.json.decode((world / "manifest.json").read_bytes())
    return hashlib.sha256(msgspec.json.encode(manifest["sha256"], order="sorted")).hexdigest()[:12]
