"""Questions that no training of a real run has seen: more held-out ones than `dev.jsonl` has, for narrower intervals.

    python -m benchmarks.unseen_questions DIR --data train.jsonl --out unseen.jsonl

DIR is the folder of `train_scripts/real.sh`. Left out are the questions of the cold start's demonstrations and those
that any training in DIR has drawn, whether or not it was trained on their episodes; so it is called after the last one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from eval.real_report import trainings_in
from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError
from foundation.files import write_whole
from foundation.json_lines import read_strict
from r1_searcher.episode.question import QARow, read_rows
from r1_searcher.episode.sft_row import SFTRow
from r1_searcher.run.episode_log import read_episodes
from r1_searcher.run.run_folder import RunFolder


def demonstrated(folder: Path, questions: Sequence[QARow]) -> set[str]:
    """Ids of the questions that a demonstration's text holds. Raises `InputError` where there are no demonstrations."""
    texts = "\n".join(row.text for row in read_strict(folder / "cold_start.jsonl", SFTRow.from_mapping))
    return {row.id for row in questions if row.question in texts}


def drawn(folder: Path) -> set[str]:
    """Ids of the questions that any training has played. Raises `InputError` where there is no training."""
    names = [stage for training in trainings_in(folder) for stage in training.stages]
    runs = [run for run in (RunFolder(folder / f"{name}_run") for name in names) if run.path.is_dir()]
    if not runs:
        raise InputError(f"{folder} holds no training; expected the folder of train_scripts/real.sh")
    files = [file for run in runs for file in run.trajectories.glob("*.jsonl")]
    return {record.row.id for file in files for record in read_episodes(file)}


def unseen(questions: Sequence[QARow], *seen: Collection[str]) -> list[QARow]:
    """The questions whose id is in none, in their order. Raises `InputError` where none is left."""
    left = [row for row in questions if not any(row.id in ids for ids in seen)]
    if not left:
        raise InputError(f"all {len(questions)} questions have been demonstrated or drawn")
    return left


def _run(options: argparse.Namespace) -> None:
    questions = read_rows(options.data)
    shown, played = demonstrated(options.folder, questions), drawn(options.folder)
    left = unseen(questions, shown, played)
    write_whole(options.out, "".join(f"{row.to_json()}\n" for row in left))
    print(f"{options.out}: {len(left)} of {len(questions)} questions; {len(shown)} demonstrated, {len(played)} drawn")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.unseen_questions", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of train_scripts/real.sh")
    parser.add_argument("--data", type=Path, required=True, help="the questions that the trainings drew from")
    parser.add_argument("--out", type=Path, required=True, help="where the questions that are left are written")
    options = parser.parse_args(argv)
    return run_command("benchmarks.unseen_questions", lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
