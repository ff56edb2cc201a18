"""One rank's part in sending weights over gloo; a module of its own, because spawned processes import it by name."""

from __future__ import annotations

import multiprocessing

import torch

from r1_searcher.host.cpu import GlooWeights


def take_part(rank: int, port: int, results: multiprocessing.Queue) -> None:
    """Put (rank, dtype, whether what arrived is what was sent) for two dtypes."""
    group = GlooWeights("127.0.0.1", port, rank, 2)
    for dtype in (torch.float32, torch.bfloat16):
        sent = torch.arange(12, dtype=torch.float32).reshape(3, 4).div(8).to(dtype)
        tensor = sent.clone() if rank == 0 else torch.empty(3, 4, dtype=dtype)
        group.broadcast(tensor, src=0, stream=None)
        results.put((rank, str(dtype), torch.equal(tensor, sent)))
