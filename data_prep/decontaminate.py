"""Remove from a training set the near-duplicates of test questions.

    python -m data_prep.decontaminate --train train.jsonl --test hotpotqa.jsonl 2wiki.jsonl --out clean.jsonl

A question goes if its words nearly match a test question (Jaccard similarity of the sets of words, case,
accents and punctuation aside): from 0.75 on, from 0.65 on where the two share an answer, and where they differ in one
word and have at least four in common (two where they share an answer). OUT.removed.jsonl lists every removed question
beside the test question.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep.questions.near_duplicates import Match, TestIndex, TestQuestion, Thresholds
from data_prep.questions.sampling import lines_of
from foundation.cli import OneLineParser, check_output, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import write_whole
from foundation.json_lines import write_json_lines
from r1_searcher.episode.question import QARow, read_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parted:
    """A training set in two."""

    kept: list[QARow]
    removed: list[Match]


def decontaminate(rows: Iterable[QARow], tests: Sequence[TestQuestion], thresholds: Thresholds) -> Parted:
    """Part the rows into those that no test question is near to, and the others; the order stays."""
    index, parted = TestIndex(tests, thresholds), Parted([], [])
    for row in rows:
        match = index.match(row)
        if match is None:
            parted.kept.append(row)
        else:
            parted.removed.append(match)
    return parted


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.decontaminate", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    out = options.out
    check_output(out)
    if any(out.resolve() == path.resolve() for path in (options.train, *options.test)):
        raise InputError(f"--out {out} is one of the inputs; choose another file")
    try:
        thresholds = Thresholds(options.threshold, options.same_answer_threshold, options.one_word_from)
    except ValueError as error:
        raise InputError(f"--threshold, --same-answer-threshold or --one-word-from: {error}") from error
    rows = read_rows(options.train)
    tests = [TestQuestion(str(path), row) for path in options.test for row in read_rows(path)]
    parted = decontaminate(tqdm(rows, desc="near-duplicates", unit="q"), tests, thresholds)
    removed_file = out.with_name(f"{out.name}.removed.jsonl")
    write_json_lines(removed_file, map(_listed, parted.removed))
    write_whole(out, lines_of(parted.kept))
    logger.info("%s: %d of %d questions kept", out, len(parted.kept), len(rows))
    for file, count in Counter(match.test.file for match in parted.removed).items():
        logger.info("%d too near to one of %s, see %s", count, file, removed_file)


def _listed(match: Match) -> dict[str, object]:
    return {
        "id": match.row.id,
        "question": match.row.question,
        "similarity": match.similarity,
        "same_answer": match.same_answer,
        "test_file": match.test.file,
        "test_id": match.test.row.id,
        "test_question": match.test.row.question,
    }


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="data_prep.decontaminate", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--train", type=Path, required=True, metavar="FILE", help="JSONL of questions to train on")
    add("--test", type=Path, required=True, nargs="+", metavar="FILE", help="JSONL of questions to test on")
    add("--threshold", type=float, default=Thresholds.words, metavar="T", help="similarity, 0..1 (%(default)s)")
    add("--same-answer-threshold", type=float, default=Thresholds.same_answer, metavar="T",
        help="where an answer is shared (%(default)s)")  # fmt: skip
    add("--one-word-from", type=int, default=Thresholds.one_word, metavar="N",
        help="common words from which on one other word does not count (%(default)s)")  # fmt: skip
    add("--out", type=Path, required=True, metavar="FILE", help="JSONL of what is kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
