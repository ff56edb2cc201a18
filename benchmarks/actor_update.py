"""What an update saves by logits of actions only and by a single forward: tokens per second of one model, each way.

    python -m benchmarks.actor_update --model DIR --data cold_start.jsonl [--json FILE]

Forward and backward of OpenRLHF's actor over micro-batches of episodes (rows of `data_prep.good_trajectories`), as the
host computes it and as `r1_searcher.host.patches.action_logits` does; then the forward for old log-probs, which
`single_forward` leaves out. Each micro-batch is computed all ways in turn, so that a drifting machine meets them alike;
reported are the medians over the micro-batches.
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
    """Seconds of one micro-batch: forward and backward with either logits, and a forward alone."""

    tokens: int
    """Without padding."""
    actions: int
    """Tokens that are trained."""
    whole_seconds: float
    sliced_seconds: float
    forward_seconds: float
    """With logits of actions, without gradients: old log-probs before the update."""

    @property
    def with_forward(self) -> float:
        """Seconds of an update of actions' logits that old log-probs were computed for first."""
        return self.forward_seconds + self.sliced_seconds


def measure(model: Path, rows: Sequence[SFTRow], size: int) -> list[MicroBatch]:
    """All ways, micro-batch by micro-batch; each first once without being counted."""
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
            with torch.no_grad():
                forward = _seconds(actor, ways[1], batch, wait)
            found.append(MicroBatch(tokens, actions, seconds[ways[0]], seconds[ways[1]], forward))
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
    log_probs = way(actor, **batch)
    if log_probs.requires_grad:
        log_probs.sum().backward()
    wait()
    return time.perf_counter() - started


def report(found: Sequence[MicroBatch]) -> str:
    """The medians as text."""
    whole = statistics.median(each.tokens / each.whole_seconds for each in found)
    sliced = statistics.median(each.tokens / each.sliced_seconds for each in found)
    both = statistics.median(each.tokens / each.with_forward for each in found)
    by_logits = statistics.median(each.whole_seconds / each.sliced_seconds for each in found)
    by_forward = statistics.median(each.with_forward / each.sliced_seconds for each in found)
    share = sum(each.actions for each in found) / sum(each.tokens for each in found)
    return (
        f"{len(found)} micro-batches, {share:.0%} of their tokens are actions\n"
        f"logits of all tokens: {whole:.0f} tokens/s; "
        f"of actions: {sliced:.0f} tokens/s; {by_logits:.2f} times as fast\n"
        f"old log-probs by a forward of their own: {both:.0f} tokens/s; by the update's: {sliced:.0f} tokens/s; "
        f"{by_forward:.2f} times as fast"
    )


def _run(options: argparse.Namespace) -> None:
    rows = list(read_strict(options.data, SFTRow.from_mapping))[: options.batches * options.size]
    if len(rows) < options.size:
        raise InputError(f"{options.data} has {len(rows)} rows; expected at least {options.size} (--size)")
    if detect()[0] is Device.CPU:
        os.environ |= {cpu.CPU_VARIABLE: "1", bf16_products.VARIABLE: bf16_products.choose()}
        cpu.install()
    host_patch.install(action_logits.PATCHES)
    found = measure(options.model, rows, options.size)
    print(report(found))
    if options.json:
        write_json(options.json, {"micro_batches": [asdict(each) for each in found]})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.actor_update", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal language model")
    parser.add_argument("--data", type=Path, required=True, help="rows of data_prep.good_trajectories")
    parser.add_argument("--batches", type=positive, default=8, help="micro-batches (default: 8)")
    parser.add_argument("--size", type=positive, default=2, help="episodes of a micro-batch (default: 2)")
    parser.add_argument("--json", type=Path, help="where every micro-batch is written")
    options = parser.parse_args(argv)
    return run_command("benchmarks.actor_update", lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
