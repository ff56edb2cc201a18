"""How large a model's weights are, and how far a step moves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.run.weights import update_size, weight_scale

BASE = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"


def test_the_scale_of_a_models_weights(tmp_path):
    assert weight_scale(str(BASE)) == pytest.approx(0.13, abs=0.01)
    assert weight_scale("org/model") is None and update_size("org/model", 1e-6) is None
    assert update_size(str(BASE), 7e-4) == pytest.approx(7e-4 / weight_scale(str(BASE)))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no safetensors file"):
        weight_scale(str(tmp_path))
