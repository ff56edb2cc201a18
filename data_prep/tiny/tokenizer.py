"""A tiny base model's tokenizer: byte-level BPE with one token per tag and word of the world."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from data_prep.tiny.demos import document_block, document_writer, good_script, weak_script
from data_prep.tiny.dialects import EOS, Dialect
from data_prep.tiny.difficulty import QUICKSTART, Dials
from data_prep.tiny.facts import WORDINGS, Question, World, draw_world, text_of
from data_prep.tiny.names import pool
from r1_searcher.episode.documents import DocumentWriter
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.tokenization import HFTokenizer
from retriever.passage import Passage

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

PAD = "<|pad|>"
MAX_POSITIONS = 2048
_VOCABULARY_LIMIT = 4096
"""Far above what the texts need: merging continues until each of their words is one token."""


def training_texts(dialect: Dialect, templates: HFTokenizer, difficulty: Dials = QUICKSTART) -> Iterator[str]:
    """All text of one world without its tags, which are special tokens. The same for every seed.

    The words of harder worlds are in that of each of them, whatever its dials. Of `templates` only the chat template
    matters.
    """
    random = Random("tokenizer")
    names = pool("sft")[:1000]
    world = draw_world(names, random)
    tags = re.compile("|".join(map(re.escape, (*dialect.protocol.tags, EOS))))
    for text in _environment_texts(document_writer(dialect.protocol, templates), world):
        yield from tags.split(text)
    for question in (*world.questions(1), *world.questions(2)):
        good, weak = good_script(dialect, question), weak_script(dialect, question, world, names, random)
        for text in (render_prompt(dialect.protocol, question.row(""), templates), *good.actions, *weak.actions):
            yield from tags.split(text)
    if difficulty != QUICKSTART:
        yield from _harder_texts(dialect, templates, world)


def _harder_texts(dialect: Dialect, templates: HFTokenizer, world: World) -> Iterator[str]:
    """Comparisons, every wording, and passages with several facts."""
    for facts in world.by_subject.values():
        yield f" {text_of(list(facts.values()))}"
    for answer, pairs in world.pairs.items():
        for pair in pairs[:100]:
            yield f" {answer} "
            yield render_prompt(dialect.protocol, Question(pair, compares=True).row(""), templates)
    for fact in world.facts:
        for word in WORDINGS[fact.relation]:
            yield render_prompt(dialect.protocol, Question((fact,), words=(word,)).row(""), templates)


def _environment_texts(writer: DocumentWriter, world: World) -> Iterator[str]:
    """The frame of a block, the facts, the correction; with tools, also the JSON around a query and its passages."""
    yield f"{writer.frame.open}(1){writer.frame.close}"
    yield from (f" {fact.text}" for fact in world.facts)
    yield writer.protocol.feedback
    if writer.protocol.tools:
        for fact in world.facts:
            yield document_block(writer, f"{fact.subject} {fact.relation}", [Passage("", "", fact.text)] * 2)


def build_tokenizer(dialect: Dialect, difficulty: Dials = QUICKSTART) -> Qwen2Tokenizer:
    """The fast tokenizer of a dialect; deterministic. It adds nothing to what it encodes.

    Normalisation and pre-tokenisation are Qwen2's own: `AutoTokenizer` gives every Qwen2 model that class,
    whatever its files say, so a tokenizer of another make would cut text differently once it is loaded.
    """
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    blank = Qwen2Tokenizer(eos_token=EOS, chat_template=dialect.chat_template)
    untrained = blank.backend_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer = untrained.normalizer, untrained.pre_tokenizer
    specials = [EOS, PAD, *dialect.protocol.tags]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY_LIMIT,
        min_frequency=1,
        special_tokens=specials,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(training_texts(dialect, HFTokenizer(blank), difficulty), trainer)
    learnt = json.loads(bpe.to_str())["model"]
    settings: dict[str, Any] = {
        "vocab": learnt["vocab"],
        "merges": [tuple(pair) for pair in learnt["merges"]],
        "unk_token": None,
        "eos_token": EOS,
        "pad_token": PAD,
        "extra_special_tokens": list(dialect.protocol.tags),
        "chat_template": dialect.chat_template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
    }
    return Qwen2Tokenizer(**settings)
