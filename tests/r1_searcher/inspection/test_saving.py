"""Generation settings that the host could not save."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest
from support.models.subjects import (
    BASE,
    TINY,
    says,
)

from foundation.errors import InputError
from r1_searcher.inspection.finding import Level
from r1_searcher.inspection.saving import check_saving, refuse_unsavable
from r1_searcher.inspection.subject import load_subject


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        # OpenRLHF/OpenRLHF #212, huggingface/transformers #29988, HKUDS/UrbanGPT #21
        ({"do_sample": False, "temperature": 0.9, "top_p": 0.6}, ["temperature", "top_p"]),
        ({"temperature": 1e-06}, ["temperature"]),  # QwenLM/Qwen3-ASR #210
        ({"do_sample": False, "temperature": 0.0, "top_k": 1}, ["temperature", "top_k"]),  # modelscope/ms-swift #1943
        ({"num_beams": 1, "early_stopping": True}, ["early_stopping"]),
        ({"do_sample": True, "temperature": 0.9, "top_p": 0.6}, []),
        ({}, []),
    ],
)
def test_generation_settings_that_cannot_be_saved_are_found(settings, said, tmp_path):
    """What the check says is what happens: transformers is asked to write them."""
    from transformers import GenerationConfig

    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "pad_token_id": 1, **settings}))
    finding = check_saving(load_subject(TINY, str(folder)))
    says(finding, Level.FAILED if said else Level.OK, *said)
    wanted = pytest.raises(ValueError, match="invalid") if said else contextlib.nullcontext()
    with wanted:
        GenerationConfig.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match=said[0]) if said else contextlib.nullcontext():
        refuse_unsavable(str(folder))  # what r1_searcher.sft asks
