"""Tags, stops, EOS and ids: what a tokenizer or a model's settings do to them is found before it costs a run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from support.models.subjects import (
    BASE,
    TINY,
    TURNS,
    byte_pairs,
    fast,
    says,
    with_recipe,
    with_tokenizer,
)

from r1_searcher.inspection.episode import check_episode
from r1_searcher.inspection.finding import Level
from r1_searcher.inspection.subject import load_subject
from r1_searcher.inspection.vocabulary import check_additions, check_eos, check_ids, check_stops, check_tags
from r1_searcher.recipe.recipe import RECIPES


def test_a_merge_of_a_tag_with_the_newline_is_found(good):
    text = "<|end_of_query|>\n\n<|begin_of_documents|>\n</think>\n<answer>"
    subject = with_tokenizer(good, fast(byte_pairs([text] * 50)))
    says(check_tags(subject), Level.WARNING, "merges", "\\n", "special tokens")
    says(check_stops(subject), Level.WARNING, "run past a stop string", "'>\\n")
    assert check_episode(subject).level is Level.OK  # spans are recorded by position: nothing is lost


def test_a_normaliser_that_makes_tags_of_look_alikes_is_found(good):
    from tokenizers import normalizers

    raw = byte_pairs(["<|end_of_query|></think>"] * 5)
    raw.normalizer = normalizers.NFKC()
    says(check_tags(with_tokenizer(good, fast(raw))), Level.FAILED, "a passage can forge a tag", "NFKC")


def test_a_tag_that_swallows_the_newline_is_found(good):
    from tokenizers import AddedToken

    hf = fast(byte_pairs(["some text"]))
    hf.add_tokens([AddedToken("<|end_of_query|>", rstrip=True, normalized=False)])
    subject = with_tokenizer(good, hf)
    says(check_tags(subject), Level.FAILED, "<|end_of_query|>\\n", "do not survive")


def test_a_vocabulary_without_such_tokens_has_no_overshoot(good):
    says(check_stops(good), Level.OK, "<|end_of_query|>")


@pytest.mark.parametrize("piece", [">.", "y|>x", "<|end_of_query|> "])
def test_every_way_to_run_past_a_stop_is_counted(good, piece):
    hf = fast(byte_pairs(["some text"]))
    hf.add_tokens([piece])
    says(check_stops(with_tokenizer(good, hf)), Level.WARNING, "1 tokens", repr(piece))


def test_a_tokenizer_that_puts_a_bos_before_texts_is_found(good):
    from tokenizers import processors

    raw = byte_pairs(["some text"], specials=("<s>", "</s>"))
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    hf = fast(raw, bos_token="<s>")
    hf.chat_template = TURNS
    subject = with_tokenizer(good, hf)
    says(check_additions(subject), Level.OK)  # a plain prompt begins with it
    chat = with_recipe(subject, protocol=RECIPES["research.chat"].protocol)
    says(check_additions(chat), Level.WARNING, "'<s>'", "BOS", "template")


def test_a_tokenizer_that_inserts_a_bos_into_every_piece_is_found(good):
    from tokenizers import normalizers

    raw = byte_pairs(["some text"], specials=("<s>", "</s>"))
    raw.normalizer = normalizers.Prepend("<s>")
    subject = with_tokenizer(good, fast(raw, bos_token="<s>"))
    says(check_additions(subject), Level.FAILED, "<s>", "adds to every piece")
    says(check_episode(subject), Level.FAILED)


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_an_eos_mismatch_is_found(tmp_path, file):
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    if file == "config.json":
        (folder / "generation_config.json").unlink()
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**settings, "eos_token_id": 5}))
    subject = load_subject(TINY, str(folder))
    says(check_eos(subject), Level.FAILED, "'<|endoftext|>'", "'<|end_of_query|>'", "5")


def test_several_eos_of_the_engine_may_hold_the_tokenizers(good):
    says(check_eos(replace(good, generation_config={"eos_token_id": [7, 0]})), Level.OK)


def test_a_tokenizer_without_eos_is_found(good):
    subject = with_tokenizer(good, fast(byte_pairs(["some text"]), eos_token=None))
    says(check_eos(subject), Level.FAILED, "no EOS")
    says(check_episode(subject), Level.FAILED)


@pytest.mark.parametrize(
    ("tokens", "level", "words"),
    [
        ({}, Level.OK, ("below",)),
        # google/gemma-3-1b-it: a token for pictures, which no text holds
        ({"additional_special_tokens": ["<image_soft_token>"]}, Level.WARNING, ("1 of", "<image_soft_token>")),
        # huggingface/transformers #12763, #11008, sillsdev/silnlp #1033: added, and the model was not resized
        ({"pad_token": "[PAD]"}, Level.FAILED, ("its padding", "resize")),
        ({"additional_special_tokens": ["<|begin_of_query|>"]}, Level.FAILED, ("<|begin_of_query|>", "resize")),
        ({"eos_token": "<|im_end|>"}, Level.FAILED, ("its EOS",)),
    ],
)
def test_tokens_without_a_row_in_the_embeddings(good, tokens, level, words):
    hf = fast(byte_pairs(["some text"]))
    rows = len(hf)
    hf.add_special_tokens(tokens)
    says(check_ids(replace(with_tokenizer(good, hf), config={"vocab_size": rows})), level, *words)


def test_a_model_that_does_not_say_its_rows_is_not_doubted(good):
    says(check_ids(replace(good, config={})), Level.OK)
