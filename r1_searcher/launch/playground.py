"""The tiny world with its services, for as long as a command runs.

    python -m r1_searcher.launch.playground --preset tiny --seed 0 -- bash -c 'eval … --search "$RETRIEVER_URL"'

`--world NAME` takes another setting of its difficulty than the preset's, with the preset's base model.

The command finds `WORLD` (folder with corpus.jsonl, corpus_train.jsonl, stage1.jsonl, stage2.jsonl, heldout.jsonl),
`RETRIEVER_URL` (a BM25 server over the whole corpus, for evaluation), `TRAINING_RETRIEVER_URL` (one over
corpus_train.jsonl, which has no passage about what is held out), `MODEL` (the preset's base model, built where it is
missing), `SEED` and `PYTHON`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError
from r1_searcher.launch.services import Services, run, run_module
from r1_searcher.recipe.presets import PROJECT, QUICKSTART, Preset, Simulator, find_preset, words_of

RUNS_VARIABLE = "R1_SEARCHER_RUNS"
"""Environment variable with another folder for runs and what they start from."""


def folder_of_runs() -> Path:
    """`runs` in the project's folder, or in the present one where that can only be read; or what the variable says."""
    if named := os.environ.get(RUNS_VARIABLE):
        return Path(named).resolve()
    own = PROJECT / "runs"
    return own if os.access(own if own.is_dir() else PROJECT, os.W_OK) else Path("runs").resolve()


RUNS = folder_of_runs()
_IN_RUNS = "./runs/"
"""How the model of a preset begins that is made here."""


def world_of(seed: int | str, setting: str = QUICKSTART) -> Path:
    """Folder of a seed's world of this difficulty."""
    return RUNS / (f"tiny_world_seed{seed}" if setting == QUICKSTART else f"tiny_world_{setting}_seed{seed}")


def model_of(preset: Preset) -> str:
    """A preset's model as the trainer takes it."""
    if preset.model.startswith(_IN_RUNS):
        return str(RUNS / preset.model.removeprefix(_IN_RUNS))
    return str(PROJECT / preset.model) if preset.model.startswith("./") else preset.model


def make_world(folder: Path, seed: int, *sizes: str, setting: str = QUICKSTART) -> None:
    """Make the world where it is missing."""
    run_module("data_prep.tiny_world", "--out", str(folder), "--seed", str(seed), *_setting(setting), *sizes)


def _setting(name: str) -> tuple[str, ...]:
    return () if name == QUICKSTART else ("--world", name)


def make_base(preset: Preset) -> None:
    """Build the preset's tiny base model where it is missing (some minutes, once)."""
    if preset.tiny is not None and preset.tiny.base_protocol:
        chosen = ("--protocol", preset.tiny.base_protocol, *_setting(preset.tiny.world))
        run_module("data_prep.tiny_base", *chosen, "--out", model_of(preset))


def start_retriever(services: Services, world: Path) -> str:
    """A BM25 server over the whole corpus, for evaluation; returns its URL."""
    return _start_bm25(services, "retriever", world / "corpus.jsonl")


def start_training_retriever(services: Services, world: Path) -> str:
    """A BM25 server over the corpus without the evaluation world, for training; returns its URL."""
    return _start_bm25(services, "training_retriever", world / "corpus_train.jsonl")


def _start_bm25(services: Services, name: str, corpus: Path) -> str:
    return services.start(name, "retriever.server", "--corpus", str(corpus), "--backend", "bm25")


def start_simulator(services: Services, simulator: Simulator, seed: int) -> str:
    """The tiny simulated search engine, built where it is missing; returns it as a source for searches.

    It is built from a base model, real searches of scripted episodes, the data made from them, and a supervised
    fine-tuning with OpenRLHF.
    """
    folder = RUNS / "tiny_simulator"
    data = folder / "data" / "sft.jsonl"
    run_module("data_prep.tiny_simulator", "--out", str(folder / "base"))
    if not data.is_file():
        searches = str(folder / "base" / "searches")
        options = ("--judge", "rule", "--mode", simulator.mode, "--out", str(data.parent))
        run_module("data_prep.simulator_data", searches, *options)
    model = ("--model", str(folder / "base"), "--data", str(data), "--out", str(folder / "model"))
    run_module("r1_searcher.sft", *model, *words_of(simulator.flags))
    url = services.start("simulator", "r1_searcher.serve", "--model", str(folder / "model"))
    return f"simulate:{url}/v1?mode={simulator.mode}&noise={simulator.noise}&seed={seed}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the status is the command's own, 2 after bad input."""
    parser = OneLineParser(prog="r1_searcher.launch.playground", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="tiny", help="whose base model is built (default tiny)")
    parser.add_argument("--world", help="how hard it is, e.g. findings (default: as the preset has it)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default 0)")
    parser.add_argument("command", nargs="+", help="after --: what to run")
    options = parser.parse_args(argv)
    return run_command("r1_searcher.launch.playground", lambda: _run(options, find_preset(options.preset)))


def _run(options: argparse.Namespace, preset: Preset) -> int:
    if preset.tiny is None:
        raise InputError(f"the preset {preset.name} has no tiny world")
    seed, setting = options.seed, options.world or preset.tiny.world
    with Services() as services:
        world = world_of(seed, setting)
        make_world(world, seed, setting=setting)
        make_base(preset)
        urls = {
            "RETRIEVER_URL": start_retriever(services, world),
            "TRAINING_RETRIEVER_URL": start_training_retriever(services, world),
        }
        found = {"WORLD": str(world), "MODEL": model_of(preset), "SEED": str(seed), "PYTHON": sys.executable}
        return run(options.command, {**os.environ, **urls, **found})


if __name__ == "__main__":
    sys.exit(main())
