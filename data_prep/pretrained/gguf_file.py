"""A GGUF file (llama.cpp's format) as a Hugging Face model and tokenizer.

`transformers` reads the weights and the vocabulary. Of the tokenizer it takes three things from elsewhere than the
file: EOS is what the file calls BOS, the padding token is left out, and words are cut as GPT-2 does, whatever the file
says (version 5.15, `integrations.ggml.GGUFLlamaConverter`). They are taken from the file here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundation.errors import InputError

ROLES = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
"""Special tokens of a tokenizer, and the file's fields that name them."""
ARCHITECTURE, VOCABULARY, CUTS = "general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"
DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r"})
"""Values of `tokenizer.ggml.pre` of tokenizers that cut digits apart and then words as GPT-2 does (llama.cpp's
`llama-vocab.cpp`)."""
AS_GPT2 = frozenset({"", "default", "gpt-2"})
"""Values, or none, of tokenizers that cut words as GPT-2 does."""


def read_gguf(file: Path) -> tuple[Any, Any]:
    """The model, in bfloat16, and its tokenizer.

    Raises:
        InputError: the file is no GGUF, is cut off, or holds an architecture, a quantization or a way of cutting words
            that cannot be read.
    """
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with file.open("rb") as content:
        start = content.read(4)
    if start != b"GGUF":
        raise InputError(f"{file} is not a GGUF file: it begins with {start!r}, expected b'GGUF'")
    try:
        fields = {name: field.contents() for name, field in GGUFReader(file).fields.items() if _is_wanted(name)}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read {file} as a model: {reason}") from error
    _correct(file, tokenizer, fields)
    return model, tokenizer


def _is_wanted(name: str) -> bool:
    return name in ROLES.values() or name in (ARCHITECTURE, VOCABULARY, CUTS)


def _correct(file: Path, tokenizer: Any, fields: dict[str, Any]) -> None:
    from tokenizers import pre_tokenizers

    for role, field in ROLES.items():
        if field in fields:
            setattr(tokenizer, role, tokenizer.convert_ids_to_tokens(fields[field]))
    cut = fields.get(CUTS, "")
    if (fields.get(ARCHITECTURE), fields.get(VOCABULARY)) == ("llama", "gpt2") and cut not in DIGITS_APART | AS_GPT2:
        raise InputError(
            f"{file} cuts words as {cut!r} says, which is not known here; give the model's folder or its hub name "
            "instead"
        )
    if cut in DIGITS_APART:
        cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
