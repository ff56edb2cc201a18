"""Rows of episodes for OpenRLHF's supervised fine-tuning: the ids as they are, and the targets of each row.

OpenRLHF's own dataset encodes text, and ends it with an EOS. `install` puts `dataset_of` in its place, before
`openrlhf.cli.train_sft` is run; rows of text go on to OpenRLHF's dataset unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openrlhf.datasets
import torch
from openrlhf.datasets.sft_dataset import SFTDataset
from torch.utils.data import Dataset

from foundation.errors import InputError
from r1_searcher.episode.sft_row import SFTRow

if TYPE_CHECKING:
    from datasets import Dataset as Table

HOST_LINE = "from openrlhf.datasets import SFTDataset"
"""How `openrlhf.cli.train_sft` finds its dataset; a test fails when the line is gone."""


def install() -> None:
    """Let `openrlhf.cli.train_sft`, imported or run from now on, read rows of episodes, too."""
    openrlhf.datasets.SFTDataset = dataset_of


def dataset_of(rows: Table, tokenizer: Any, max_length: int, strategy: Any, **options: Any) -> Dataset[Any]:
    """`EpisodeDataset` where the rows are of episodes, else OpenRLHF's own, whose arguments these are."""
    if "targets" in rows.column_names:
        return EpisodeDataset(rows, tokenizer, max_length)
    own: Dataset[Any] = SFTDataset(rows, tokenizer, max_length, strategy, **options)
    return own


class EpisodeDataset(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Rows of `SFTRow`, in OpenRLHF's tensors; those longer than `max_length` ids are left out."""

    collate_fn = SFTDataset.collate_fn
    """Pads on the right with `tokenizer.pad_token_id`; the padding's mask is 0."""

    def __init__(self, rows: Table, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        lengths = [0 if ids is None else len(ids) for ids in rows["ids"]]
        if not all(lengths):
            raise InputError(f"row {lengths.index(0) + 1} has no ids: rows of episodes and of text cannot be mixed")
        self.rows = rows.select([place for place, length in enumerate(lengths) if length <= max_length])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids, attention mask and loss mask, each `[1, ids]`; the loss mask is 1 where the *next* id is a target."""
        row = SFTRow.from_mapping(self.rows[place])
        ids = torch.tensor([row.ids])
        loss_mask = torch.zeros_like(ids, dtype=torch.float32)
        for start, end in row.targets:
            loss_mask[0, start - 1 : end - 1] = 1
        return ids, torch.ones_like(ids), loss_mask
