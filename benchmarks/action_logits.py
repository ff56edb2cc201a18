"""What it saves to compute the logits of actions only: tokens per second of one model's updates, both ways.

    python -m benchmarks.action_logits --model DIR --data cold_start.jsonl [--json FILE]

Forward and backward of OpenRLHF's actor over micro-batches of episodes (rows of `data_prep.good_trajectories`), as the
host computes it and as `r1_searcher.host.patches.action_logits` does. Each micro-batch is computed both ways in turn,
so that a drifting machine meets both alike; reported are the medians over the micro-batches.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from foundation.cli import OneLineParser, positive, run_command
from foundation.errors import InputError
from foundation.files import write_json
from foundation.json_lines import read_strict
from r1_searcher.episode.sft_row import SFTRow
from r1_searcher.host import bf16_products, cpu
from r1_searcher.host.device import Device, detect
from r1_searcher.host.patches import action_logits, host_patch


@dataclass(frozen=True)
class MicroBatch:
    """Seconds of one micro-batch's forward and backward."""

    tokens: int
    """Without padding."""
    actions: int
    """Tokens that are trained."""
    whole_seconds: float
    sliced_seconds: float


def measure(model: Path, rows: Sequence[SFTRow], size: int) -> list[MicroBatch]:
    """Both ways, micro-batch by micro-batch; each first once without being counted."""
    import torch
    from openrlhf.models import actor as host

    actor = host.Actor(str(model), attn_implementation="sdpa", param_dtype="bf16")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    actor.to(device).train()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    ways = (host.Actor.forward.__wrapped__, host.Actor.forward)
    batches = [_tensors(rows[start : start + size], device) for start in range(0, len(rows) - size + 1, size)]
    found = []
    for place, batch in enumerate(tqdm([batches[0], *batches], unit="batch")):
        turn = ways if place % 2 else ways[::-1]
        seconds = {way: _seconds(actor, way, batch, wait) for way in turn}
        if place:
            tokens, actions = int(batch["attention_mask"].sum()), int(batch["action_mask"].sum())
            found.append(MicroBatch(tokens, actions, *(seconds[way] for way in ways)))
    return found


def _tensors(rows: Sequence[SFTRow], device: str) -> dict[str, Any]:
    import torch

    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids, attention, actions = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        attention[place, : len(row.ids)] = 1
        for start, end in row.targets:
            actions[place, start:end] = 1
    made = {"sequences": ids, "attention_mask": attention, "action_mask": actions[:, 1:]}
    return {name: tensor.to(device) for name, tensor in made.items()}


def _seconds(actor: Any, way: Callable[..., Any], batch: dict[str, Any], wait: Callable[[], None]) -> float:
    actor.zero_grad()
    started = time.perf_counter()
    way(actor, **batch).sum().backward()
    wait()
    return time.perf_counter() - started


def report(found: Sequence[MicroBatch]) -> str:
    """The medians as text."""
    whole, sliced = (
        statistics.median(batch.tokens / seconds for batch, seconds in zip(found, times, strict=True))
        for times in ([each.whole_seconds for each in found], [each.sliced_seconds for each in found])
    )
    ratio = statistics.median(each.whole_seconds / each.sliced_seconds for each in found)
    share = sum(each.actions for each in found) / sum(each.tokens for each in found)
    return (
        f"{len(found)} micro-batches, {share:.0%} of their tokens are actions\n"
        f"logits of all tokens: {whole:.0f} tokens/s; of actions: {sliced:.0f} tokens/s; {ratio:.2f} times as fast"
    )


def _run(options: argparse.Namespace) -> None:
    rows = list(read_strict(options.data, SFTRow.from_mapping))[: options.batches * options.size]
    if len(rows) < options.size:
        raise InputError(f"{options.data} has {len(rows)} rows; expected at least {options.size} (--size)")
    if detect()[0] is Device.CPU:
        os.environ |= {cpu.ENVIRONMENT_VARIABLE: "1", bf16_products.VARIABLE: bf16_products.choose()}
        cpu.install()
    host_patch.install(action_logits.PATCHES)
    found = measure(options.model, rows, options.size)
    print(report(found))
    if options.json:
        write_json(options.json, {"micro_batches": [asdict(each) for each in found]})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.action_logits", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal language model")
    parser.add_argument("--data", type=Path, required=True, help="rows of data_prep.good_trajectories")
    parser.add_argument("--batches", type=positive, default=8, help="micro-batches (default: 8)")
    parser.add_argument("--size", type=positive, default=2, help="episodes of a micro-batch (default: 2)")
    parser.add_argument("--json", type=Path, help="where every micro-batch is written")
    options = parser.parse_args(argv)
    return run_command("benchmarks.action_logits", lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
