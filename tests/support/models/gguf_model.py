"""A tiny language model as a GGUF file, with the faults and habits of published ones; written by gguf's own writer."""

from __future__ import annotations

from pathlib import Path

from support.episodes.fakes import CHATML

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HIDDEN, MLP = 32, 48


def write_gguf(file: Path, *, architecture: str = "llama", cuts: str = "smollm") -> Path:
    """A Llama of one layer over bytes: EOS is `<|im_end|>`, the padding token is EOS, digits are cut apart."""
    import numpy as np
    from gguf import GGUFWriter, TokenType
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # A pair of digits and a blank before one: pieces that a tokenizer which cuts digits apart never makes.
    tokens = [*SPECIALS, *letters, "12", "Ġ1", "th"]
    control, normal = int(TokenType.CONTROL), int(TokenType.NORMAL)
    random = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32) * 0.1

    writer = GGUFWriter(file, architecture)
    writer.add_name("a tiny model")
    writer.add_block_count(1)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(HIDDEN // 2)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cuts)
    writer.add_add_space_prefix(False)
    writer.add_token_list(tokens)
    writer.add_token_types([control] * len(SPECIALS) + [normal] * (len(tokens) - len(SPECIALS)))
    writer.add_token_merges(["1 2", "Ġ 1", "t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(
        CHATML.replace("{% endfor %}", "{% endfor %}{% if add_generation_prompt %}") + "{% endif %}"
    )
    half = HIDDEN // 2
    for name, shape in {
        "token_embd": (len(tokens), HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.ffn_norm": (HIDDEN,),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (half, HIDDEN),
        "blk.0.attn_v": (half, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (MLP, HIDDEN),
        "blk.0.ffn_up": (MLP, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, MLP),
    }.items():
        writer.add_tensor(f"{name}.weight", weight(*shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
