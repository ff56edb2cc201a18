"""A checkpoint as DeepSpeed writes it with ZeRO-2 and bf16, of a model that is not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_zero2(folder: Path, model: Any, ranks: int) -> None:
    """Write the files of all ranks: bf16 weights once, and each rank's part of their fp32 copies."""
    import torch

    folder.mkdir(parents=True)
    named = dict(model.named_parameters())  # a tied output embedding is not named again
    shapes = {name: value.shape for name, value in named.items()}
    states = {
        "module": {name: value.detach().bfloat16() for name, value in named.items()},
        "buffer_names": [],
        "param_shapes": [shapes],
        "shared_params": {"lm_head.weight": "model.embed_tokens.weight"},
        "frozen_param_shapes": None,
        "frozen_param_fragments": None,
        "dp_world_size": ranks,
        "ds_version": "0.19.6",
    }
    torch.save(states, folder / "mp_rank_00_model_states.pt")
    flat = torch.cat([value.detach().float().flatten() for value in named.values()])
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % (2 * ranks)))
    for rank, part in enumerate(flat.chunk(ranks)):
        optimizer = {
            "zero_stage": 2,
            "partition_count": [ranks],
            "single_partition_of_fp32_groups": [part.clone()],
        }
        file = folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": optimizer, "ds_version": "0.19.6"}, file)
