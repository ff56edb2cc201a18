"""The model of the GPU tests, made small: that they start from what they think can be seen without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models.small_qwen import EOS, small_qwen

from r1_searcher.episode.prompting import documents_frame, render_prompt
from r1_searcher.episode.question import QARow
from r1_searcher.host.model_folder import load_tokenizer
from r1_searcher.memory.shape import find_shape
from r1_searcher.recipe.presets import shipped_presets
from r1_searcher.recipe.recipe import find_recipe

pytestmark = pytest.mark.slow


def test_every_gpu_preset_can_start_from_it(tmp_path: Path):
    from safetensors import safe_open

    folder = small_qwen(tmp_path / "qwen", vocabulary=1_000)
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.eos_texts == {EOS} and len(tokenizer.hf) == 1_000
    text = "Where is the Lilu ?\n<think> 42"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert all(isinstance(tokenizer.decode([token]), str) for token in range(1_000)), "any sampled id has a text"
    with safe_open(folder / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    assert sum(rows * (columns[0] if columns else 1) for rows, *columns in shapes) == find_shape(str(folder)).parameters
    row = QARow("q", "Where is the tower ?", ("Paris",), "test")
    for preset in shipped_presets().values():
        if preset.device == "cuda":
            for stage in preset.stages.values():
                protocol = find_recipe(stage.recipe).protocol
                documents_frame(protocol, tokenizer)
                assert len(tokenizer.encode(render_prompt(protocol, row, tokenizer))) < 4096 - 64
