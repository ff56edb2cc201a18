"""A published corpus -> a passage store for the retriever, on all cores and in bounded memory.

    python -m data_prep.corpus --format kilt --input kilt_knowledgesource.json --out stores/kilt
    python -m data_prep.corpus --format hotpotqa_abstracts --input enwiki-20171001-abstracts/ --out stores/hotpotqa
    python -m data_prep.corpus --format wiki18 --input wiki-18.jsonl --out stores/wiki18
    python -m data_prep.corpus --format dpr --input psgs_w100.tsv.gz --out stores/psgs
    python -m data_prep.corpus --format tsv --input kilt_100.tsv --out stores/kilt_r1
    python -m data_prep.corpus --format jsonl --input *.jsonl --field id=_id --field text=body --out stores/mine

Inputs are files or folders, plain or compressed (.gz, .bz2, .xz; one compressed file is read by one process, so
unpack a single large one first). Without --format it follows from the first lines and a table's columns; what the
input was read as is logged. Killed at any moment, the same command continues without redoing finished shards, and
the store is the same. Lines that give no passage are counted and listed in OUT/bad_lines.jsonl. Exit statuses: 0 done;
2 bad input, 3 a full disk or a killed worker, with one line on stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.corpus.units import UnitDone, UnitTask, cut_into_units, do_unit
from foundation.cli import TIMED, OneLineParser, expected, log_to_stderr, positive, run_command
from foundation.files import draft, parse_json, text_sha256
from foundation.owned_folder import BuildFolder, held
from foundation.workers import cores, finished
from retriever.index.corpus import CorpusError, doubts
from retriever.index.formats import FORMATS, Cutting, Recognised, recognised
from retriever.index.store import STORE_NAME, PassageStore, finish_store

logger = logging.getLogger(__name__)

BAD_LINES_NAME = "bad_lines.jsonl"
_WORK_FOLDER = ".corpus_work"
_MOST_SHARDS = 256
_LEAST_UNIT_BYTES = 4 * 1024 * 1024
IDS_AT_ONCE = 4_000_000
"""Ids whose hashes are in memory at once when repeated ones are counted."""


def build_store(
    files: Sequence[Path], out: Path, format_name: str, cutting: Cutting, *, unit_bytes: int | None, processes: int
) -> PassageStore:
    """Build the store, or what is missing of it.

    Raises:
        InputError: the folder holds, or was started for, something else.
        CorpusError: no passages came out.
    """
    total = sum(file.stat().st_size for file in files)
    unit_bytes = unit_bytes or max(_LEAST_UNIT_BYTES, -(-total // _MOST_SHARDS))
    fields = dict(sorted(cutting.fields.items())) if format_name == "jsonl" else None
    words = cutting.words if format_name == "kilt" else None
    columns = list(cutting.columns) if format_name == "dpr" else None
    inputs = {"files": len(files), "bytes": total, "sha256": _names_and_sizes(files)}
    facts: dict[str, object] = {
        "source": format_name,
        "inputs": inputs,
        "words": words,
        "fields": fields,
        "unit_bytes": unit_bytes,
    }
    if columns is not None:
        facts["columns"] = columns
    work = out / _WORK_FOLDER
    with BuildFolder(out, out / STORE_NAME, "passage store").building(facts, work) as is_finished:
        if not is_finished:
            units = cut_into_units(files, unit_bytes)
            tasks = [UnitTask(unit, format_name, cutting, out, work) for unit in units]
            with held(work):
                _do_all(tasks, processes)
            _finish(out, tasks, facts)
    return PassageStore.open(out)


def _finish(out: Path, tasks: Sequence[UnitTask], facts: Mapping[str, object]) -> None:
    """From finished units to a store."""
    done = [msgspec.json.decode(task.done_file.read_bytes(), type=UnitDone) for task in tasks]
    _merge_bad_lines(tasks, done, out / BAD_LINES_NAME)
    lines, bad = sum(sum(each.lines.values()) for each in done), sum(each.bad for each in done)
    repeated = repeated_ids([np.load(task.ids_file, mmap_mode="r") for task in tasks])
    more = {"header_lines": sum(each.headers for each in done), "untitled": sum(each.untitled for each in done)}
    finish_store(out, [each.shard for each in done], **facts, lines=lines, bad_lines=bad, repeated_ids=repeated, **more)


def repeated_ids(hashes: Sequence[NDArray[np.uint64]]) -> int:
    """How many passages have an id that an earlier one has, from each unit's sorted hashes."""
    total = sum(len(each) for each in hashes)
    parts = total // IDS_AT_ONCE + 1
    borders = np.array([2**64 * part // parts for part in range(1, parts)], dtype=np.uint64)
    cuts = [np.concatenate([[0], np.searchsorted(each, borders), [len(each)]]) for each in hashes]
    repeated = 0
    for part in range(parts):
        together = [each[cut[part] : cut[part + 1]] for each, cut in zip(hashes, cuts, strict=True)]
        ids = np.concatenate(together) if together else np.zeros(0, np.uint64)
        repeated += len(ids) - len(np.unique(ids))
    return repeated


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    log_to_stderr(TIMED)
    return run_command("data_prep.corpus", lambda: _run(options), resumable=True)


def _run(options: argparse.Namespace) -> None:
    with expected(ValueError, OSError, EOFError, ImportError):
        files = _files(options.input)
        found = _format_of(files[0], options)
        logger.info("read as %s", found.shape)
        try:
            store = build_store(
                files,
                options.out,
                found.format,
                found.cutting,
                unit_bytes=options.unit_bytes,
                processes=options.processes,
            )
        except CorpusError as error:
            looks = recognised(files[0])
            hint = "" if looks is None else f" {files[0].name} looks like {looks.shape}"
            raise CorpusError(f"{error}{hint}") from error
    facts = store.facts
    logger.info(
        "%d passages from %s lines in %s (%d shards)", len(store), facts["lines"], options.out, len(store.shards)
    )
    if facts["bad_lines"]:
        logger.warning(
            "%s of %s lines gave no passage, listed in %s",
            facts["bad_lines"],
            facts["lines"],
            options.out / BAD_LINES_NAME,
        )
    if facts["repeated_ids"]:
        logger.warning("%s passages have an id that occurs more than once", facts["repeated_ids"])
    for doubt in () if options.no_corpus_warnings else doubts(store):
        logger.warning("%s", doubt)


def _format_of(file: Path, options: argparse.Namespace) -> Recognised:
    """The format that was named, or what the first lines say; of the two kinds of tables always that."""
    looks = recognised(file, Cutting(words=options.words))
    tables = ("dpr", "tsv")
    if options.format is None or (options.format in tables and looks is not None and looks.format in tables):
        if looks is None:
            raise ValueError(f"--input {file}: its first lines are in no known format; name it with --format")
        if options.field:
            return replace(looks, cutting=Cutting(options.words, _fields(options.field, looks.format)))
        return looks
    return Recognised(
        options.format, Cutting(options.words, _fields(options.field, options.format)), f"{options.format}, as named"
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="data_prep.corpus", description="Build a passage store.", allow_abbrev=False)
    add = parser.add_argument
    add("--format", choices=tuple(FORMATS), help="default: from the first lines")
    add("--input", type=Path, nargs="+", required=True, metavar="PATH", help="files, or folders of files")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the store; a killed build is continued")
    add("--field", action="append", default=[], metavar="NAME=FIELD", help="jsonl: where id, title or text are")
    add("--words", type=positive, default=100, help="kilt: words of a passage (%(default)s)")
    add("--processes", type=positive, default=cores(), help="processes (default: all cores, %(default)s here)")
    add("--no-corpus-warnings", action="store_true", help="no warnings of missing titles or odd first lines")
    add(
        "--unit-bytes",
        type=positive,
        help="bytes of input for one shard (default: a 256th of the input, at least 4 MiB)",
    )
    return parser


def _files(inputs: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for given in inputs:
        if not given.exists():
            raise ValueError(f"--input {given}: no such file or folder")
        inside = sorted(path for path in given.rglob("*") if path.is_file() and not path.name.startswith("."))
        files.extend(inside if given.is_dir() else [given])
    if not sum(file.stat().st_size for file in files):
        raise ValueError(f"--input {', '.join(map(str, inputs))}: nothing to read")
    return files


def _fields(given: Sequence[str], format_name: str) -> dict[str, str]:
    fields = dict(Cutting().fields)
    for each in given:
        name, equals, source = each.partition("=")
        if format_name != "jsonl" or name not in fields or not equals or not source:
            raise ValueError(f"--field {each}: expected id=FIELD, title=FIELD or text=FIELD, with --format jsonl")
        fields[name] = source
    return fields


def _names_and_sizes(files: Sequence[Path]) -> str:
    listed = "\n".join(f"{file.name} {file.stat().st_size}" for file in files)
    return text_sha256(listed)


def _do_all(tasks: Sequence[UnitTask], processes: int) -> None:
    missing = [task for task in tasks if not task.done_file.is_file()]
    total, left = (sum(task.unit.bytes for task in which) for which in (tasks, missing))
    with tqdm(total=total, initial=total - left, desc="passages", unit="B", unit_scale=True) as bar:
        passages = 0
        for task, done in finished(do_unit, missing, processes):
            passages += done.shard.count
            bar.set_postfix(passages=passages, refresh=False)
            bar.update(task.unit.bytes)


def _merge_bad_lines(tasks: Sequence[UnitTask], done: Sequence[UnitDone], path: Path) -> None:
    """One list of all bad lines, numbered within their files."""
    before: dict[str, int] = {}
    with draft(path) as temporary, temporary.open("w", encoding="utf-8") as merged:
        for task, each in zip(tasks, done, strict=True):
            with task.bad_file.open(encoding="utf-8") as lines:
                for line in lines:
                    row = parse_json(line)
                    row["line"] += before.get(row["file"], 0)
                    merged.write(json.dumps(row) + "\n")
            for file, count in each.lines.items():
                before[file] = before.get(file, 0) + count


if __name__ == "__main__":
    sys.exit(main())
