"""A tiny base model: taught to search and copy, then weakened to a base that rarely does.

The order matters. The skill (query, copy the value, continue to the second hop) is finished first, so that it
is still there once a search happens; the weak phase then buries it under guesses, wrong queries and
malformed endings, which RL can unlearn.

The same seed gives the same demonstrations and the same tokenizer, byte for byte. Weights are the same bit
for bit on one machine with the same library versions; elsewhere sums round differently, and the figures are
close.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from data_prep.tiny.demos import (
    DemoEncoder,
    Encoded,
    document_writer,
    good_script,
    practice_scripts,
    replies,
    weak_script,
)
from data_prep.tiny.dialects import DIALECTS, Dialect, find_dialect
from data_prep.tiny.difficulty import QUICKSTART, SETTINGS, Dials, find_world
from data_prep.tiny.distractors import SIDES, free_names, known_questions
from data_prep.tiny.facts import Question, World, draw_questions, draw_world, worded
from data_prep.tiny.names import name_words, pool
from data_prep.tiny.tokenizer import build_tokenizer
from foundation.cli import OneLineParser, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import read_json, sync_folder, sync_tree, write_json
from foundation.owned_folder import beside, check_equal
from r1_searcher.episode.tokenization import HFTokenizer
from retriever.index.bm25 import Bm25Index

if TYPE_CHECKING:
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "model"
"""The folder of the shipped model, of the protocol `SHIPPED`."""
SHIPPED = "r1_searcher.tiny"
METRICS = "metrics.json"
"""Written last: a folder that has it holds a finished model."""
WORLDS = 60
NAMES_PER_WORLD = 500
QUESTIONS_PER_WORLD = 176
WEAK_PER_WORLD = 80
NAME_WEIGHT = 2.0
"""Weight of copied names in the skill phase."""
EVALUATION_QUESTIONS = 250


def draw_demos(
    dialect: Dialect, tokenizer: Qwen2Tokenizer, seed: int, difficulty: Dials = QUICKSTART
) -> tuple[list[Encoded], list[Encoded]]:
    """Good and weak demonstrations from worlds of the SFT pool, names and facts redrawn in each.

    What is to be known by heart is among both in its share.
    """
    words = [word for position in name_words() for word in position]
    hf = HFTokenizer(tokenizer)
    good = DemoEncoder(dialect.protocol, hf, words, NAME_WEIGHT)
    weak = DemoEncoder(dialect.protocol, hf, words, 1.0)
    writer = document_writer(dialect.protocol, hf)
    demos: tuple[list[Encoded], list[Encoded]] = ([], [])
    for number in range(WORLDS):
        random, sizes = Random(f"demonstrations {seed} {number}"), Random(f"passages shown {seed} {number}")
        names = random.sample(free_names(difficulty), NAMES_PER_WORLD)
        world = draw_world(names, random, difficulty.together)
        index = Bm25Index.build(world.passages("sft"))
        questions = _demo_questions(world, QUESTIONS_PER_WORLD, random, difficulty)
        weak_questions = _demo_questions(world, WEAK_PER_WORLD, random, difficulty)
        weak_scripts = [weak_script(dialect, q, world, names, random, difficulty) for q in weak_questions]
        for question, script in practice_scripts(dialect, weak_questions, world, names, random, difficulty):
            weak_questions.append(question)
            weak_scripts.append(script)
        for encoder, kept, chosen, scripts in (
            (good, demos[0], questions, [good_script(dialect, question) for question in questions]),
            (weak, demos[1], weak_questions, weak_scripts),
        ):
            inserted = replies(writer, index, scripts, [sizes.choice(difficulty.shown) for _ in scripts])
            kept += [encoder(*one) for one in zip(chosen, scripts, inserted, strict=True)]
    return demos


def _demo_questions(world: World, count: int, random: Random, difficulty: Dials) -> list[Question]:
    """Questions about the world, and as many more about known facts as make their share."""
    questions = draw_questions(world, count, random, difficulty)
    if difficulty.known:
        more = round(count * difficulty.known)
        for side in SIDES:
            questions += worded(known_questions(side, more, random), difficulty, random)
        random.shuffle(questions)
    return questions


def build(dialect: Dialect, out: Path, seed: int, difficulty: Dials = QUICKSTART) -> dict[str, object]:
    """Train and save the model beside its tokenizer; the figures that are written to `METRICS`."""
    from data_prep.tiny.training import SKILL, SKILL_AGAIN, WEAK, new_model, train

    started = time.perf_counter()
    tokenizer = build_tokenizer(dialect, difficulty)
    good, weak = draw_demos(dialect, tokenizer, seed, difficulty)
    logger.info("%d good and %d weak demonstrations, %.0f s", len(good), len(weak), time.perf_counter() - started)
    model = new_model(tokenizer, seed)
    metrics: dict[str, object] = {
        "protocol": dialect.name,
        "difficulty": difficulty.of_the_base,
        "seed": seed,
        "parameters": model.num_parameters(),
    }
    for name, demos, schedule in (("skill", good, SKILL), ("skill_again", good, SKILL_AGAIN), ("weak", weak, WEAK)):
        loss = train(model, demos, schedule, tokenizer.pad_token_id, seed)
        figures = {"loss": round(loss, 4)}
        if schedule is SKILL_AGAIN:  # the skill is complete: what the weak phase must not destroy
            figures |= evaluate(dialect, model, tokenizer, seed, difficulty, modes=("greedy",))["greedy"]
        metrics[name] = figures
        logger.info("%s: %s", name, figures)
    save(model, tokenizer, out)
    metrics["base"] = evaluate(dialect, load(out), tokenizer, seed, difficulty)
    metrics["build_seconds"] = round(time.perf_counter() - started)
    write_json(out / METRICS, metrics)
    return metrics


def evaluate(
    dialect: Dialect,
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    seed: int,
    difficulty: Dials = QUICKSTART,
    modes: Sequence[str] = ("greedy", "sampled", "greedy_after_right_search"),
) -> dict[str, dict[str, float]]:
    """Retrieval, format, F1 and exact match on a world of the evaluation pool, for each way of playing.

    Without what is known by heart.
    """
    from data_prep.tiny.rollout import BatchedPolicy, play, right_searches, summary

    world = draw_world(pool("evaluation"), Random(f"evaluation of the base {seed}"), difficulty.together)
    index = Bm25Index.build(world.passages("evaluation"))
    questions = draw_questions(world, EVALUATION_QUESTIONS, Random(seed), difficulty)
    results = {}
    for mode in modes:
        policy = BatchedPolicy(model, tokenizer, temperature=1.0 if mode == "sampled" else 0.0, seed=seed)
        written = right_searches(dialect, questions) if mode.endswith("right_search") else ()
        episodes = play(dialect, policy, tokenizer, index, questions, written)
        results[mode] = summary(dialect, episodes)
    return results


def save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, out: Path) -> None:
    """Write weights (bfloat16), configuration and tokenizer as `from_pretrained` reads them."""
    import torch

    torch.nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # the library makes it private
    tokenizer.save_pretrained(out)


def load(folder: Path) -> Qwen2ForCausalLM:
    """The saved weights, computed with in float32: what bfloat16 kept of them, in every place the same."""
    import torch
    from transformers import Qwen2ForCausalLM

    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)


def is_finished(out: Path, dialect: Dialect, seed: int, difficulty: Dials = QUICKSTART) -> bool:
    """Whether a folder holds this model.

    Raises:
        InputError: it holds another one, or something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder, found the file {out}")
    if not (out / METRICS).exists():
        return False
    try:
        metrics = read_json(out / METRICS)
        found = {
            "protocol": metrics.get("protocol", SHIPPED),
            "difficulty": metrics.get("difficulty", QUICKSTART.of_the_base),
            "seed": metrics.get("seed"),
        }
    except InputError:
        found = {}
    wanted = {"protocol": dialect.name, "difficulty": difficulty.of_the_base, "seed": seed}
    check_equal(found, wanted, f"{out} holds another base model", "choose another --out, or add --overwrite")
    return True


def build_in_place(dialect: Dialect, out: Path, seed: int, difficulty: Dials = QUICKSTART) -> dict[str, object]:
    """Build beside `out` and move the files there when all are complete, `METRICS` last."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as draft:
        metrics = build(dialect, Path(draft), seed, difficulty)
        sync_tree(Path(draft))
        out.mkdir(exist_ok=True)
        (out / METRICS).unlink(missing_ok=True)
        for file in sorted(Path(draft).iterdir(), key=lambda file: file.name == METRICS):
            sync_folder(out)
            os.replace(file, out / file.name)
        sync_folder(out)
    return metrics


def _run(options: argparse.Namespace) -> None:
    dialect, difficulty = find_dialect(options.protocol), find_world(options.world)
    if options.out is None and (dialect.name != SHIPPED or difficulty != QUICKSTART):
        raise InputError(
            f"--out is missing: only the base model of {SHIPPED} in the world {QUICKSTART.name} has a place of its own"
        )
    out: Path = options.out or FOLDER
    if options.tokenizer_only:
        out.mkdir(parents=True, exist_ok=True)
        build_tokenizer(dialect, difficulty).save_pretrained(out)
        return
    if not options.overwrite and is_finished(out, dialect, options.seed, difficulty):  # also where nobody may write
        logger.info("%s holds this model already; --overwrite builds it again", out)
        return
    with beside(out, wait=True):  # several runs may start at once, and each needs it
        if not options.overwrite and is_finished(out, dialect, options.seed, difficulty):
            return
        import torch

        torch.set_num_threads(1)
        logger.info("%s", json.dumps(build_in_place(dialect, out, options.seed, difficulty), indent=2))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    parser = OneLineParser(prog="data_prep.tiny_base", description=__doc__)
    parser.add_argument("--protocol", default=SHIPPED, help=f"one of {', '.join(DIALECTS)} (default {SHIPPED})")
    parser.add_argument(
        "--world", default=QUICKSTART.name, help=f"how hard it is: {', '.join(SETTINGS)} (default {QUICKSTART.name})"
    )
    parser.add_argument("--out", type=Path, help=f"folder to write to; of {SHIPPED}, by default the shipped one")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, demonstrations and their order (default 0)"
    )
    parser.add_argument("--tokenizer-only", action="store_true", help="leave the weights alone")
    parser.add_argument("--overwrite", action="store_true", help="build also where --out holds a finished model")
    options = parser.parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.tiny_base", lambda: _run(options))
