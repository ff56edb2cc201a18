"""A published question set -> the rows that training and evaluation read.

    python -m data_prep.questions --dataset hotpotqa --out data/hotpotqa.jsonl
    python -m data_prep.questions --dataset musique --input musique_ans_v1.0_train.jsonl --out data/musique.jsonl
    python -m data_prep.questions --dataset 2wiki --split validation --sample 500 --out data/2wiki_500.jsonl
    python -m data_prep.questions --dataset nq --hub RUC-NLPIR/FlashRAG_datasets --config nq --out data/nq.jsonl

From the hub, or with --input from a file (.jsonl, .json, .csv, .tsv, .parquet; text also with .gz, .bz2, .xz) of the
release's own format, DPR's, KILT's, FiD's, FlashRAG's or verl's, or a folder in the hub's layout; what a file was taken
for is said. Rows without a question or an answer, and repeated ids, are counted and listed in OUT.bad.jsonl.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data_prep.questions.qa_datasets import DATASETS, QADataset, read_row
from data_prep.questions.raw_rows import HubPlace, RawFile, from_file, from_hub
from data_prep.questions.sampling import lines_of, shuffled
from data_prep.questions.tables import BadRow, RawItem
from foundation.cli import OneLineParser, check_output, log_to_stderr, positive, run_command
from foundation.errors import InputError
from foundation.files import write_whole
from foundation.json_lines import write_json_lines
from foundation.text_lines import text_stem
from r1_searcher.episode.question import QARow

logger = logging.getLogger(__name__)


@dataclass
class Loaded:
    """The rows of a question set, and those left out."""

    rows: list[QARow] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def load(dataset: QADataset, raw_rows: Iterable[RawItem], label: str) -> Loaded:
    """Read every row; what cannot be read is listed.

    Args:
        label: what the ids of a set without ids begin with, e.g. `nq-train`.
    """
    loaded, seen = Loaded(), set[str]()
    for number, raw in raw_rows:
        if isinstance(raw, BadRow):
            loaded.bad.append(raw)
            continue
        try:
            row = read_row(dataset, raw, f"{label}-{number}")
            if row.id in seen:
                raise ValueError(f"an earlier row has the id {row.id!r}, too")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            loaded.bad.append(BadRow(number, reason))
            continue
        seen.add(row.id)
        loaded.rows.append(row)
    return loaded


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.questions", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    dataset, out = DATASETS[options.dataset], options.out
    check_output(out)
    split = options.split or dataset.split
    raw = _raw_rows(options, dataset, split)
    label = f"{dataset.name}-{text_stem(options.input) if _is_file(options.input) else split}"
    loaded = load(dataset, tqdm(raw.rows, desc=dataset.name, unit="row"), label)
    if not loaded.rows:
        why = f"; the first of {len(loaded.bad)}: {loaded.bad[0].why}" if loaded.bad else ""
        raise InputError(f"no row can be read as {dataset.name} ({raw.shape}){why}")
    rows = loaded.rows if options.sample is None else shuffled(loaded.rows, options.seed)[: options.sample]
    logger.info("read as %s", raw.shape)
    _list_bad(loaded, out.with_name(f"{out.name}.bad.jsonl"))
    write_whole(out, lines_of(rows))
    logger.info("%s: %d of %d questions", out, len(rows), len(loaded.rows))


def _is_file(path: Path | None) -> bool:
    return path is not None and not path.is_dir()


def _raw_rows(options: argparse.Namespace, dataset: QADataset, split: str) -> RawFile:
    if _is_file(options.input):
        return from_file(options.input)
    if options.input is not None:
        place = HubPlace(str(options.input), options.config, split)
    else:
        config = options.config if options.hub else options.config or dataset.config
        place = HubPlace(options.hub or dataset.hub, config, split, options.revision)
    return RawFile(f"{place.path}, {place.split}", from_hub(place))


def _list_bad(loaded: Loaded, path: Path) -> None:
    """List the bad rows beside the output, in place of the list of an earlier run."""
    if not loaded.bad:
        path.unlink(missing_ok=True)
        return
    write_json_lines(path, map(vars, loaded.bad))
    rows = len(loaded.rows) + len(loaded.bad)
    logger.warning("%d of %d rows cannot be read and are left out, see %s", len(loaded.bad), rows, path)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="data_prep.questions", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--dataset", required=True, choices=tuple(DATASETS), help="the question set")
    add("--input", type=Path, metavar="PATH", help="a file of the release, or a folder in the hub's layout")
    add("--split", help="split of the hub's copy (default: train, or the only one)")
    add("--hub", metavar="NAME", help="another copy on the hub, e.g. RUC-NLPIR/FlashRAG_datasets")
    add("--config", help="configuration of the hub's copy, where it has several")
    add("--revision", help="commit of the hub's copy, to load the same rows again later")
    add("--sample", type=positive, metavar="N", help="only N questions, drawn with --seed")
    add("--seed", type=int, default=0, help="seed of --sample (default 0)")
    add("--out", type=Path, required=True, metavar="FILE", help="JSONL of questions")
    return parser


if __name__ == "__main__":
    sys.exit(main())
