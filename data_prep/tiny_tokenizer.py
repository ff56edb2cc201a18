"""The tiny base model's tokenizer: byte-level BPE with one token per tag and word of the world."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from data_prep.tiny_demos import EOS, PROTOCOL, good_script, weak_script
from data_prep.tiny_facts import draw_world
from data_prep.tiny_names import pool
from r1_searcher.protocol import prompt_text

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

PAD = "<|pad|>"
MAX_POSITIONS = 2048
_VOCABULARY_LIMIT = 4096
"""Far above what the texts need: merging goes on until each of their words is one token."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].capitalize() + ' : ' + message['content'] + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant : ' }}{% endif %}"
)


def training_texts() -> Iterator[str]:
    """All text of one world without its tags, which are special tokens.  The same for every seed."""
    random = Random("tokenizer")
    names = pool("sft")[:1000]
    world = draw_world(names, random)
    tags = re.compile("|".join(map(re.escape, (*PROTOCOL.tags, EOS))))
    prompt = prompt_text(PROTOCOL.prompt)
    block = f"{PROTOCOL.before_documents}(1){PROTOCOL.after_documents}"
    for text in (block, *(f" {fact.text}" for fact in world.facts)):
        yield from tags.split(text)
    for question in (*world.questions(1), *world.questions(2)):
        written = (*good_script(question).actions, *weak_script(question, world, names, random).actions)
        for text in (prompt.replace("{question}", question.text), *written):
            yield from tags.split(text)


def build_tokenizer() -> Qwen2Tokenizer:
    """The fast tokenizer; deterministic.  It adds nothing to what it encodes.

    Normalisation and pre-tokenisation are Qwen2's own: ``AutoTokenizer`` gives every Qwen2 model that class,
    whatever its files say, so a tokenizer of another make would cut text differently once it is loaded.
    """
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    untrained = Qwen2Tokenizer().backend_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer = untrained.normalizer, untrained.pre_tokenizer
    specials = [EOS, PAD, *PROTOCOL.tags]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY_LIMIT,
        min_frequency=1,
        special_tokens=specials,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(training_texts(), trainer)
    learnt = json.loads(bpe.to_str())["model"]
    settings: dict[str, Any] = {
        "vocab": learnt["vocab"],
        "merges": [tuple(pair) for pair in learnt["merges"]],
        "unk_token": None,
        "eos_token": EOS,
        "pad_token": PAD,
        "extra_special_tokens": list(PROTOCOL.tags),
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
    }
    return Qwen2Tokenizer(**settings)
