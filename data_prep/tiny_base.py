"""The tiny base model: taught to search and copy, then weakened to a base that rarely does.

The order matters.  The skill (query, copy the value, go on to the second hop) is finished first, so that it
is still there once a search happens; the weak phase then buries it under guesses, wrong queries and
malformed endings, which RL can unlearn.

The same seed gives the same demonstrations and the same tokenizer, byte for byte.  Weights are the same bit
for bit on one machine with the same library versions; elsewhere sums round differently, and the figures are
close.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from data_prep.tiny_demos import DemoEncoder, Encoded, document_blocks, good_script, weak_script
from data_prep.tiny_facts import draw_questions, draw_world
from data_prep.tiny_names import name_words, pool
from data_prep.tiny_tokenizer import build_tokenizer
from r1_searcher.tokenization import HFTokenizer
from retriever.bm25 import Bm25Index

if TYPE_CHECKING:
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "tiny_base"
"""Where the shipped model is."""
WORLDS = 60
NAMES_PER_WORLD = 500
QUESTIONS_PER_WORLD = 176
WEAK_PER_WORLD = 80
NAME_WEIGHT = 2.0
"""Weight of copied names in the skill phase."""
EVALUATION_QUESTIONS = 250


def draw_demos(tokenizer: Qwen2Tokenizer, seed: int) -> tuple[list[Encoded], list[Encoded]]:
    """Good and weak demonstrations from worlds of the SFT pool, names and facts redrawn in each."""
    words = [word for position in name_words() for word in position]
    good = DemoEncoder(HFTokenizer(tokenizer), words, NAME_WEIGHT)
    weak = DemoEncoder(HFTokenizer(tokenizer), words, 1.0)
    demos: tuple[list[Encoded], list[Encoded]] = ([], [])
    for number in range(WORLDS):
        random = Random(f"demonstrations {seed} {number}")
        names = random.sample(pool("sft"), NAMES_PER_WORLD)
        world = draw_world(names, random)
        index = Bm25Index.build(world.passages("sft"))
        questions = draw_questions(world, QUESTIONS_PER_WORLD, random)
        weak_questions = draw_questions(world, WEAK_PER_WORLD, random)
        for encoder, kept, chosen, scripts in (
            (good, demos[0], questions, [good_script(question) for question in questions]),
            (weak, demos[1], weak_questions, [weak_script(q, world, names, random) for q in weak_questions]),
        ):
            blocks = document_blocks(index, scripts)
            kept += [encoder(*one) for one in zip(chosen, scripts, blocks, strict=True)]
    return demos


def build(out: Path, seed: int) -> dict[str, object]:
    """Train and save the model beside its tokenizer; the figures that are written to ``metrics.json``."""
    from data_prep.tiny_training import Schedule, new_model, train

    started = time.perf_counter()
    tokenizer = build_tokenizer()
    good, weak = draw_demos(tokenizer, seed)
    logger.info("%d good and %d weak demonstrations, %.0f s", len(good), len(weak), time.perf_counter() - started)
    model = new_model(tokenizer, seed)
    metrics: dict[str, object] = {"seed": seed, "parameters": model.num_parameters()}
    skill = Schedule(steps=220, adamw_lr=3e-3, muon_lr=0.02)
    finish = Schedule(steps=110, adamw_lr=2e-3, muon_lr=0.02)
    weaken = Schedule(steps=140, adamw_lr=1e-3, muon_lr=None)
    for name, demos, schedule in (
        ("skill", good, skill),
        ("skill_again", good, finish),
        ("weak", weak, weaken),
    ):
        loss = train(model, demos, schedule, tokenizer.pad_token_id, seed)
        metrics[name] = {
            "loss": round(loss, 4),
            **evaluate(model, tokenizer, seed, modes=("greedy",))["greedy"],
        }
        logger.info("%s: %s", name, metrics[name])
    save(model, tokenizer, out)
    metrics["base"] = evaluate(load(out), tokenizer, seed)
    metrics["build_seconds"] = round(time.perf_counter() - started)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def evaluate(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    seed: int,
    modes: Sequence[str] = ("greedy", "sampled", "greedy_after_right_search"),
) -> dict[str, dict[str, float]]:
    """Retrieval, format, F1 and exact match on a world of the evaluation pool, for each way of playing."""
    from data_prep.tiny_rollout import BatchedPolicy, play, summary

    world = draw_world(pool("evaluation"), Random(f"evaluation of the base {seed}"))
    index = Bm25Index.build(world.passages("evaluation"))
    questions = draw_questions(world, EVALUATION_QUESTIONS, Random(seed))
    results = {}
    for mode in modes:
        policy = BatchedPolicy(model, tokenizer, temperature=1.0 if mode == "sampled" else 0.0, seed=seed)
        results[mode] = summary(play(policy, tokenizer, index, questions, force=mode.endswith("right_search")))
    return results


def save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, out: Path) -> None:
    """Write weights (bfloat16), configuration and tokenizer as ``from_pretrained`` reads them."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.tiny_base", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of weights, demonstrations and their order (default 0)")
    parser.add_argument("--tokenizer-only", action="store_true", help="leave the weights alone")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.tokenizer_only:
        build_tokenizer().save_pretrained(options.out)
        return 0
    import torch

    torch.set_num_threads(1)
    metrics = build(options.out, options.seed)
    logger.info("%s", json.dumps(metrics, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
