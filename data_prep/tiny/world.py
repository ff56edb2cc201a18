"""The tiny world: a fictional encyclopedia and questions about it that only a search can answer.

The names come in fixed pools (`data_prep.tiny.names`), one for RL and another for evaluation;
the seed draws who is what, the facts, the questions and their order (`data_prep.tiny.facts`). How hard they are is a
named setting (`data_prep.tiny.difficulty`).

Evaluation searches the whole corpus. Training searches a corpus of its own, in which a stand-in takes the place of each
passage about the evaluation world: what is held out is then in no context of a training run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from data_prep.tiny.difficulty import KNOWN, QUICKSTART, SETTINGS, Dials, find_world
from data_prep.tiny.distractors import KNOWN_NAMES, Side, free_names, known_facts, known_questions, namesakes
from data_prep.tiny.facts import (
    FACTS_PER_ENTITY,
    RIVERS_SHARE,
    Question,
    World,
    apart,
    draw_kinds,
    draw_world,
    worded,
)
from data_prep.tiny.names import POOL_SIZES, background_names, pool
from foundation.cli import OneLineParser, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import text_sha256, write_whole
from foundation.json_lines import line_of
from foundation.owned_folder import held
from r1_searcher.episode.question import QARow
from retriever.passage import Passage

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Goes up when the same seed and sizes give other bytes."""


@dataclass(frozen=True)
class WorldFiles:
    """The written files: two corpora and three files of questions, which share none."""

    corpus: list[Passage]
    """About both worlds, and filler."""
    training_corpus: list[Passage]
    """The same in the same order, with a stand-in for each passage about the evaluation world."""
    stage1: list[QARow]
    stage2: list[QARow]
    heldout: list[QARow]


def draw_files(
    seed: int, passages: int | None, stage1: int, stage2: int, heldout: int, difficulty: Dials = QUICKSTART
) -> WorldFiles:
    """Draw the RL world, the evaluation world, their questions, and filler up to `passages` passages.

    Raises:
        InputError: a size that the world cannot have.
    """
    if min(stage1, stage2, heldout) < 1:
        raise InputError(f"question counts must be positive, found {stage1}, {stage2} and {heldout}")
    rl = draw_world(pool("rl"), Random(f"rl world {seed}"), difficulty.together)
    evaluation = draw_world(pool("evaluation"), Random(f"evaluation world {seed}"), difficulty.together)
    held_out = evaluation.passages("evaluation")
    corpus = rl.passages("rl") + held_out
    corpus += _namesakes((rl, evaluation), difficulty, seed)
    if difficulty.known:
        held_out += known_facts("evaluation").passages("known-evaluation")
        corpus += known_facts("rl").passages("known-rl") + known_facts("evaluation").passages("known-evaluation")
    size = difficulty.passages if passages is None else passages
    corpus += _filler((len(corpus) if size is None else size) - len(corpus), seed, len(corpus))
    train = _questions("rl", rl, (stage1, stage2), difficulty, seed)
    (held,) = _questions("evaluation", evaluation, (heldout,), difficulty, seed)
    Random(f"corpus {seed}").shuffle(corpus)
    stand_ins = dict(zip(held_out, _stand_ins(seed, difficulty), strict=True))
    training_corpus = [stand_ins.get(passage, passage) for passage in corpus]
    return WorldFiles(
        corpus, training_corpus, _rows("stage1", train[0]), _rows("stage2", train[1]), _rows("heldout", held)
    )


def _questions(side: Side, world: World, counts: Sequence[int], difficulty: Dials, seed: int) -> list[list[Question]]:
    """Lists of so many questions about one side's entities, which share none.

    Where there is nothing to share out, the order is that of the draw: the quickstart's held-out questions have it.
    """
    random = Random(f"{side} questions {seed}")
    lists = [difficulty.counts(count) for count in counts]
    draws = difficulty.draws(counts) if len(counts) > 1 else lists[0]
    questions = draw_kinds(world, {kind: number for kind, number in draws.items() if kind != KNOWN}, random)
    if len(counts) > 1 or difficulty.known:
        questions += known_questions(side, draws.get(KNOWN, 0), random)
        return [worded(chosen, difficulty, random) for chosen in apart(questions, lists, random)]
    return [worded(questions, difficulty, random)]


def _namesakes(worlds: Sequence[World], difficulty: Dials, seed: int) -> list[Passage]:
    random = Random(f"namesakes {seed}")
    names = free_names(difficulty)
    found = namesakes(worlds, names, difficulty.namesakes, random) if difficulty.namesakes else World(())
    return found.passages("namesake")


def _rows(name: str, questions: Iterable[Question]) -> list[QARow]:
    return [question.row(f"tiny-{name}-{number:04d}") for number, question in enumerate(questions)]


def _filler(count: int, seed: int, own: int) -> list[Passage]:
    if count < 0:
        raise InputError(f"--passages {own + count} is too few: the RL and evaluation worlds alone have {own}")
    if count == 0:
        return []
    # Enough names that nine tenths of them, two facts each, cover the count, and no kind is empty.
    names = background_names(max(50, count * RIVERS_SHARE // (FACTS_PER_ENTITY * (RIVERS_SHARE - 1)) + RIVERS_SHARE))
    return draw_world(names, Random(f"background {seed}")).passages("background")[:count]


def _stand_ins(seed: int, difficulty: Dials) -> list[Passage]:
    """As many passages as are held out, made of the same words, so that searches are as hard.

    Their names are of the pool of supervised data: together the pools hold every pair of words.
    """
    random = Random(f"stand-ins {seed}")
    names = random.sample(free_names(difficulty), POOL_SIZES["evaluation"])
    found = draw_world(names, random, difficulty.together).passages("stand-in")
    if difficulty.known:
        others = random.sample(free_names(difficulty), KNOWN_NAMES)
        found += draw_world(others, random).passages("stand-in-known")
    return found


def write_files(files: WorldFiles, out: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write the JSONL files and `manifest.json` (settings with every dial, counts, SHA-256 of each file).

    Raises:
        InputError: `out` holds another world and `overwrite` is not set.
    """
    texts = {
        "corpus.jsonl": _passage_lines(files.corpus),
        "corpus_train.jsonl": _passage_lines(files.training_corpus),
        "stage1.jsonl": _question_lines(files.stage1),
        "stage2.jsonl": _question_lines(files.stage2),
        "heldout.jsonl": _question_lines(files.heldout),
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        **settings,
        "passages": len(files.corpus),
        "lines": {name: text.count("\n") for name, text in texts.items()},
        "sha256": {name: text_sha256(text) for name, text in texts.items()},
    }
    texts["manifest.json"] = json.dumps(manifest, indent=2) + "\n"
    if not _holds(out, texts):  # if it does, nothing need be written, and it may be that nothing can
        with held(out, wait=True):  # several runs may start at once, and each needs it
            _write_texts(texts, out, overwrite)
    logger.info("tiny world in %s: %s", out, manifest["lines"])


def _holds(out: Path, texts: Mapping[str, str]) -> bool:
    files = {name: out / name for name in texts}
    return all(file.is_file() and file.read_bytes() == texts[name].encode() for name, file in files.items())


def _write_texts(texts: Mapping[str, str], out: Path, overwrite: bool) -> None:
    # The manifest follows from the rest: a folder of an earlier version is the same world with fewer files.
    existing = [name for name in texts if name != "manifest.json" and (out / name).exists()]
    changed = [name for name in existing if (out / name).read_bytes() != texts[name].encode()]
    if changed and not overwrite:
        raise InputError(
            f"{out} holds another world ({', '.join(changed)} differ): use another --out, or add --overwrite"
        )
    for name, text in texts.items():
        write_whole(out / name, text)


def _passage_lines(passages: Iterable[Passage]) -> str:
    return "".join(line_of({"id": p.id, "title": p.title, "text": p.text}) for p in passages)


def _question_lines(rows: Iterable[QARow]) -> str:
    return "".join(f"{row.to_json()}\n" for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    parser = OneLineParser(prog="data_prep.tiny_world", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of facts and questions (default 0)")
    parser.add_argument(
        "--world", default=QUICKSTART.name, help=f"how hard it is: {', '.join(SETTINGS)} (default {QUICKSTART.name})"
    )
    parser.add_argument(
        "--passages",
        type=int,
        help="size of the corpus; default: the setting's, or the two worlds' own 1800",
    )
    parser.add_argument("--stage1", type=int, default=96, help="training questions of stage 1 (default 96)")
    parser.add_argument("--stage2", type=int, default=600, help="training questions of stage 2 (default 600)")
    parser.add_argument("--heldout", type=int, default=250, help="evaluation questions (default 250)")
    parser.add_argument("--overwrite", action="store_true", help="replace another world in --out")
    options = vars(parser.parse_args(argv))
    log_to_stderr()
    out, overwrite, world = (options.pop(name) for name in ("out", "overwrite", "world"))
    return run_command("data_prep.tiny_world", lambda: _write(out, overwrite, find_world(world), options))


def _write(out: Path, overwrite: bool, difficulty: Dials, sizes: dict[str, Any]) -> None:
    settings = {**sizes, "difficulty": difficulty.as_mapping()}
    write_files(draw_files(**sizes, difficulty=difficulty), out, settings, overwrite)
