"""The inputs of a tiny simulated search engine: a base model that can write documents, and real searches.

The base knows how an engine answers in worlds of the SFT pool, but not what noise is: told `noisy` it writes the
same. That is left to the supervised fine-tuning after it, whose data come from the real searches of scripted episodes.
Of a first hop it can only invent the value; of the last one it copies the gold answer that its prompt tells.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from data_prep.tiny.base import METRICS, NAMES_PER_WORLD, is_finished, save
from data_prep.tiny.demos import Encoded, good_script, weak_script
from data_prep.tiny.dialects import EOS, Dialect, find_dialect
from data_prep.tiny.difficulty import TOP_K
from data_prep.tiny.facts import Question, World, draw_questions, draw_world
from data_prep.tiny.names import pool
from data_prep.tiny.tokenizer import build_tokenizer
from foundation.cli import OneLineParser, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import write_json
from foundation.owned_folder import beside, whole_folder
from r1_searcher.episode.tokenization import HFTokenizer, Tokenizer
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.episode_log import EpisodeLog
from r1_searcher.run.episode_record import EpisodeRecord
from r1_searcher.run.run_folder import RunFolder
from retriever.index.bm25 import Bm25Index
from retriever.simulated.prompts import SimulatedSearch, simulator_messages, write_documents

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

logger = logging.getLogger(__name__)

RECIPE = "tiny.zerosearch"
MODE = "short"
"""The simulator's prompt: a model of this size reads no instructions."""
SEARCHES = "searches"
"""Folder of the scripted episodes, as that of a run."""
WORLDS = 60
SCRIPTED_WORLDS = 6
QUESTIONS_PER_WORLD = 176
FIRST_WEIGHT, WEIGHT = 2.0, 0.5
"""Weights in the loss of the first document's tokens and of the others: what a value is, is decided in the first."""
P_WEAK = 0.3
"""Share of scripted episodes that search as the weak base does."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'user' %}{{ '\\n' }}{% elif message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)


@dataclass(frozen=True)
class Exchange:
    """One request to the simulator and the engine's real answer."""

    search: SimulatedSearch
    documents: tuple[str, ...]


def _queries(question: Question, world: World, random: Random) -> Iterator[str]:
    """The searches that answer the question, and those that go astray.

    Without the latter the simulator would tell the gold answer to whoever asks for anything, and the policy would
    never learn whom to search for.
    """
    for fact in question.facts:
        yield f"{fact.subject} {fact.relation}"
    first, last = question.facts[0], question.facts[-1]
    yield f"{first.subject} {random.choice([r for r in world.by_subject[first.subject] if r != first.relation])}"
    yield f"{random.choice(world.by_kind[first.kind])} {first.relation}"
    if last is not first:
        yield f"{first.subject} {last.relation}"  # a hop left out


def draw_exchanges(seed: int) -> list[Exchange]:
    """How a real engine answers searches for questions of SFT worlds, names and facts redrawn in each."""
    exchanges = []
    for number in range(WORLDS):
        random = Random(f"simulator {seed} {number}")
        world = draw_world(random.sample(pool("sft"), NAMES_PER_WORLD), random)
        asked = [
            (question, query)
            for question in draw_questions(world, QUESTIONS_PER_WORLD, random)
            for query in _queries(question, world, random)
        ]
        index = Bm25Index.build(world.passages("sft"))
        for (question, query), hits in zip(asked, index.search([query for _, query in asked], TOP_K), strict=True):
            search = SimulatedSearch(query, question.text, (question.answer,), useful=random.random() < 0.5)
            exchanges.append(Exchange(search, tuple(hit.passage.text for hit in hits)))
    return exchanges


def simulator_tokenizer(dialect: Dialect, exchanges: Sequence[Exchange]) -> Qwen2Tokenizer:
    """The tiny policy's tokenizer, trained again on what a simulator reads and writes: one token for every word."""
    texts = [text for exchange in exchanges for text in _texts(exchange)]
    tokenizer = build_tokenizer(dialect).train_new_from_iterator(texts, vocab_size=4096, show_progress=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _texts(exchange: Exchange) -> tuple[str, str]:
    prompt = "".join(message["content"] for message in simulator_messages(exchange.search, MODE))
    return f"{prompt}\n", write_documents(exchange.documents)


def encode(exchange: Exchange, tokenizer: Tokenizer) -> Encoded:
    """Ids of prompt and answer; only the answer is trained."""
    prompt, answer = _texts(exchange)
    first, *others = (answer + EOS).splitlines(keepends=True)
    pieces = [(prompt, 0.0), (first, FIRST_WEIGHT), ("".join(others), WEIGHT)]
    encoded = [(tokenizer.encode(text), weight) for text, weight in pieces]
    return Encoded(
        tuple(token for ids, _ in encoded for token in ids),
        tuple(weight for ids, weight in encoded for _ in ids),
    )


def write_searches(dialect: Dialect, folder: Path, seed: int) -> None:
    """Play scripted episodes against a real index and keep their trajectories, as a run's folder does."""
    from data_prep.tiny.rollout import play

    tokenizer = build_tokenizer(dialect)
    log = EpisodeLog(RunFolder(folder).trajectories / "scripted.jsonl")
    for number in range(SCRIPTED_WORLDS):
        random = Random(f"searches {seed} {number}")
        names = random.sample(pool("sft"), NAMES_PER_WORLD)
        world = draw_world(names, random)
        questions = draw_questions(world, QUESTIONS_PER_WORLD, random)
        scripts = [
            weak_script(dialect, question, world, names, random)
            if random.random() < P_WEAK
            else good_script(dialect, question)
            for question in questions
        ]
        index = Bm25Index.build(world.passages("sft"))
        for trajectory in play(dialect, None, tokenizer, index, questions, [script.actions for script in scripts]):
            log.write(EpisodeRecord(trajectory))
    log.close()
    write_json(RunFolder(folder).config_file, {"recipe": find_recipe(RECIPE).to_mapping()})


def build(dialect: Dialect, out: Path, seed: int) -> dict[str, object]:
    """Train and save the base beside its tokenizer, and write the searches; the figures of `METRICS`."""
    from data_prep.tiny.training import LearningRate, new_model, train

    write_searches(dialect, out / SEARCHES, seed)
    exchanges = draw_exchanges(seed)
    tokenizer = simulator_tokenizer(dialect, exchanges)
    hf = HFTokenizer(tokenizer)
    model = new_model(tokenizer, seed)
    schedule = LearningRate(steps=400, adamw_lr=3e-3, muon_lr=0.02)
    loss = train(model, [encode(exchange, hf) for exchange in exchanges], schedule, tokenizer.pad_token_id, seed)
    save(model, tokenizer, out)
    metrics: dict[str, object] = {"protocol": dialect.name, "seed": seed, "parameters": model.num_parameters()}
    metrics |= {"exchanges": len(exchanges), "loss": round(loss, 4)}
    write_json(out / METRICS, metrics)
    return metrics


def build_in_place(dialect: Dialect, out: Path, seed: int) -> dict[str, object]:
    """Build beside `out` and move the folder there when it is complete.

    Raises:
        InputError: `out` is there already, unfinished.
    """
    if out.exists():
        raise InputError(f"{out} is there, but holds no finished simulator base: remove it, or use another --out")
    with whole_folder(out) as draft:
        return build(dialect, draft, seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    parser = OneLineParser(prog="data_prep.tiny_simulator", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the base; its searches go to searches/")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, worlds and episodes (default 0)")
    options = parser.parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.tiny_simulator", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    dialect = find_dialect(find_recipe(RECIPE).protocol.name)
    if is_finished(options.out, dialect, options.seed):  # also where it cannot be written to
        logger.info("%s holds this base already", options.out)
        return
    with beside(options.out, wait=True):  # several runs may start at once, and each needs it
        if is_finished(options.out, dialect, options.seed):
            return
        import torch

        torch.set_num_threads(1)
        logger.info("%s", json.dumps(build_in_place(dialect, options.out, options.seed)))
