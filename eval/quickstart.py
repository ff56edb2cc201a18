"""The whole path in the tiny world: base model, stage 1, stage 2, each evaluated; then a table and a report.

Every phase continues where an interrupted call left it, because each of its commands does. Options that are not ours
go to the training of both stages.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.phases import PhaseFailed
from foundation.cli import OneLineParser, expected, run_command
from r1_searcher.episode.question import iter_rows
from r1_searcher.host.command import check_data_path
from r1_searcher.launch.playground import (
    RUNS,
    make_world,
    model_of,
    start_retriever,
    start_training_retriever,
    world_of,
)
from r1_searcher.launch.services import Services, run
from r1_searcher.recipe.presets import find_preset
from r1_searcher.run.run_folder import RunFolder

SMALL = ("--stage1", "40", "--stage2", "48", "--heldout", "24")
"""Sizes of the world of `--small`: 5 + 6 steps and 24 held-out questions."""
SEED = 3
"""The first of the seeds on which no setting of the tiny presets was chosen."""


@dataclass(frozen=True)
class Quickstart:
    """One seed's path, its folder and its world."""

    out: Path
    world: Path
    seed: int
    training_options: Sequence[str] = ()

    def play(self, sizes: Sequence[str]) -> None:
        """All phases. Raises `PhaseFailed` at the first that fails."""
        base = model_of(find_preset("tiny"))
        with self._timed("world"):
            make_world(self.world, self.seed, *sizes)
        with Services() as services:
            url, training_url = start_retriever(services, self.world), start_training_retriever(services, self.world)
            with self._timed("evaluate_base"):
                self._evaluate("base", base, url)
            for stage, start in (("stage1", base), ("stage2", self._model_after("stage1"))):
                with self._timed(stage):
                    self._train(stage, start, training_url)
                with self._timed(f"evaluate_{stage}"):
                    self._evaluate(stage, self._model_after(stage), url)
        for module in ("eval.quickstart_report", "eval.report"):
            _run(module, str(self.out))
        print(f"\nAsk the model: {self.how_to_ask()}", flush=True)

    def how_to_ask(self) -> str:
        """The command that asks the model just trained a question that it was not trained on."""
        question = next(iter_rows(self.world / "heldout.jsonl")).question
        search = f"corpus:{self.world / 'corpus.jsonl'}"
        command = ("-m", "r1_searcher.ask", "--model", self._model_after("stage2"), "--search", search, question)
        return shlex.join([sys.executable, *command])

    def note_time(self, phase: str, spent_s: float) -> None:
        """Add a phase's wall time to the table."""
        with (self.out / "seconds.tsv").open("a", encoding="utf-8") as table:
            table.write(f"{phase}\t{spent_s:.0f}\n")

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """A phase: its title on stderr, and its time in the table once it has succeeded."""
        print(f"\n== {phase} ==", file=sys.stderr, flush=True)
        started = time.monotonic()
        yield
        self.note_time(phase, time.monotonic() - started)

    def _model_after(self, stage: str) -> str:
        return str(RunFolder(self.out / f"{stage}_run").model)

    def _train(self, stage: str, start: str, url: str) -> None:
        chosen = ("--preset", "tiny", "--stage", stage, "--seed", str(self.seed), "--actor.model_name_or_path", start)
        places = ("--run-dir", str(self.out / f"{stage}_run"), "--data", str(self.world / f"{stage}.jsonl"))
        _run("r1_searcher.train", *chosen, *places, "--search", url, *self.training_options)

    def _evaluate(self, name: str, model: str, url: str) -> None:
        questions = ("--recipe", "tiny.stage2", "--model", model, "--data", str(self.world / "heldout.jsonl"))
        _run("eval.run", *questions, "--search", url, "--out", str(self.out / name), "--also-sampled")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the status is that of the phase that failed."""
    parser = OneLineParser(prog="quickstart", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, help="folder of the results; default: runs/quickstart, or …_small")
    parser.add_argument("--small", action="store_true", help="shows that everything runs, and learns little")
    parser.add_argument("--seed", type=int, default=SEED, help="of the world and the training (default %(default)s)")
    parser.add_argument("--setup-seconds", type=float, default=0.0, help="what the set-up took, for the table")
    options, training_options = parser.parse_known_args(argv)
    suffix = "_small" if options.small else ""
    out = (options.out or RUNS / f"quickstart{suffix}").resolve()
    quickstart = Quickstart(out, world_of(f"{options.seed}{suffix}"), options.seed, training_options)
    sizes = SMALL if options.small else ()
    return run_command("quickstart", lambda: _play(quickstart, sizes, options.setup_seconds), resumable=True)


def _play(quickstart: Quickstart, sizes: Sequence[str], setup_s: float) -> int | None:
    check_data_path("--out", quickstart.out)
    with expected(OSError):
        quickstart.out.mkdir(parents=True, exist_ok=True)
        quickstart.note_time("setup", setup_s)
    try:
        quickstart.play(sizes)
    except PhaseFailed as failure:
        return failure.status
    return None


def _run(module: str, *arguments: str) -> None:
    status = run([sys.executable, "-m", module, *arguments])
    if status != 0:
        raise PhaseFailed(status if status > 0 else 128 - status)


if __name__ == "__main__":
    sys.exit(main())
