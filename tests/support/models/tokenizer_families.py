"""Tokenizers of real families, trained small on the spot: what `transformers` and `tokenizers` make of text and ids."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from support.episodes.fakes import CHATML

TEXTS = [
    "The tower stands in Paris, the capital of France.",
    "Question : Where is the tower?\n<think> I need to search for it. </think>\n\n <answer> Paris </answer>",
    "<|begin_of_query|>tower<|end_of_query|>\n\n<|begin_of_documents|>\n(1) A tower.\n<|end_of_documents|>",
    "Alan Turing was born in London in 1912; he died in Wilmslow.",
] * 20
SPECIALS = ["<s>", "</s>", "<|user|>"]


GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2 cuts text into words before it joins bytes; SmolLM2 cuts digits apart besides."""
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")


def byte_level(words: str = GPT2, *, digits: bool = False, nfc: bool = False):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Split(Regex(words), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), *cuts] if digits else cuts)
    if nfc:
        raw.normalizer = normalizers.NFC()
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False),
    )
    return raw


def metaspace():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    letters = sorted(set("".join(TEXTS) + "▁xyzHmé"))
    raw.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=[*SPECIALS, "<unk>"], unk_token="<unk>", initial_alphabet=letters,
            show_progress=False,
        ),
    )  # fmt: skip
    # Llama-2 puts a BOS before whatever it encodes, unless told otherwise.
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return raw


def word_piece():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    raw = Tokenizer(models.WordPiece(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    raw.train_from_iterator(
        TEXTS,
        trainers.WordPieceTrainer(vocab_size=300, special_tokens=[*SPECIALS, "<unk>"], show_progress=False),
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return raw


def wrapped(raw, *, tags: bool = False) -> HFTokenizer:
    from transformers import PreTrainedTokenizerFast

    hf = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    hf.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    hf.pad_token = "</s>"
    hf.chat_template = CHATML.replace("<|im_end|>", "</s>")
    if tags:
        hf.add_tokens(list(R1_SEARCHER_TINY.tags))
    return HFTokenizer(hf)


def tiny() -> HFTokenizer:
    from transformers import AutoTokenizer

    folder = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
    return HFTokenizer(AutoTokenizer.from_pretrained(folder))


FAMILIES = {
    "GPT-2": lambda: wrapped(byte_level()),
    "GPT-2, tags added": lambda: wrapped(byte_level(), tags=True),
    "SmolLM2": lambda: wrapped(byte_level(digits=True)),
    "Llama-3": lambda: wrapped(byte_level(LLAMA3)),
    "Qwen2": lambda: wrapped(byte_level(QWEN2, nfc=True)),
    "metaspace unigram": lambda: wrapped(metaspace()),
    "metaspace unigram, tags added": lambda: wrapped(metaspace(), tags=True),
    "word pieces, tags added": lambda: wrapped(word_piece(), tags=True),
    "tiny base": tiny,
}
LOSSLESS = [name for name in FAMILIES if not name.startswith("word")]
