"""A small model in Qwen2.5's form: random weights, but its vocabulary's size, chat format and EOS.

What costs memory and time because of 152,064 tokens (logits, tokenizer, detokenization) is then as with the real one.
"""

from __future__ import annotations

import json
from pathlib import Path

from support.episodes.fakes import CHATML
from support.models.tokenizer_families import QWEN2, byte_level

VOCABULARY = 152_064
EOS = "<|im_end|>"
SPECIALS = ("<|endoftext|>", "<|im_start|>", EOS)


def small_qwen(folder: Path, vocabulary: int = VOCABULARY) -> Path:
    """Write the model's folder: 2 layers of width 256, some 80 M parameters, nearly all of them embeddings."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(vocabulary)
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def _tokenizer(vocabulary: int):
    """A byte-level BPE whose vocabulary is filled up with words, so that every id of the model is a text."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(byte_level(QWEN2, nfc=True).to_str())
    words = state["model"]["vocab"]
    count = vocabulary - len(SPECIALS)
    for number in range(len(words), count):
        words[f"w{number}"] = number
    state["added_tokens"] = []
    raw = Tokenizer.from_str(json.dumps(state))
    raw.add_special_tokens(list(SPECIALS))
    assert raw.get_vocab_size() == vocabulary, raw.get_vocab_size()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=EOS,
        pad_token=SPECIALS[0],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
