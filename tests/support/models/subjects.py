"""Models to be examined: the tiny one with one thing changed, tokenizers trained to be at fault, chat templates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.inspection.finding import Finding, Level
from r1_searcher.inspection.subject import Subject
from r1_searcher.recipe.recipe import RECIPES

BASE = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
TINY = RECIPES["tiny.stage2"]


def with_prompt(subject: Subject, prompt: str) -> Subject:
    return with_recipe(subject, protocol=replace(subject.protocol, prompt=prompt))


def with_recipe(subject: Subject, **changes: object) -> Subject:
    return replace(subject, recipe=replace(subject.recipe, **changes))


def with_limits(subject: Subject, **changes: int) -> Subject:
    return with_recipe(subject, limits=replace(subject.recipe.limits, **changes))


def with_tokenizer(subject: Subject, hf: object) -> Subject:
    return replace(subject, tokenizer=HFTokenizer(hf), generation_config={}, config={})


def says(finding: Finding, level: Level, *words: str) -> None:
    line = finding.line("check")
    assert finding.level is level, line
    assert all(word in line for word in words), line
    assert bool(finding.advice) == (level is not Level.OK) and "\n" not in line


def byte_pairs(texts: list[str], size: int = 400, specials: tuple[str, ...] = ("</s>",)):
    """A byte-level BPE without a splitting expression: it merges whatever stands together often."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    return raw


def fast(raw, **options):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=raw, **{"eos_token": "</s>", **options})


TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}<|assistant|>"


def chat_subject(good: Subject, recipe: str, template: str | None, eos: str = "</s>") -> Subject:
    hf = fast(byte_pairs(["some text"], specials=("</s>", "<|end|>")), chat_template=template, eos_token=eos)
    hf.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    return replace(with_tokenizer(good, hf), recipe=RECIPES[recipe])
