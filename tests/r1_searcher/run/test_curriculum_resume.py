"""A run that is resumed in the middle of a curriculum meets the same share of noise, search by search."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from foundation.chat.endpoint import ChatReply, EndpointConfig
from r1_searcher.recipe.schedule import Batches, Progress
from retriever.passage import SearchRequest
from retriever.simulated.engine import Noise, SimulatedRetriever

TOTAL, PER_STEP, NOISE = 75, 8, Noise(0.0, 0.5)
BATCHES = Batches(PER_STEP, per_pass=TOTAL * PER_STEP)


class Canned:
    """A model that writes one document."""

    config = EndpointConfig("http://x", "m")

    async def chat_once(self, messages, limit_s, **parameters):
        return ChatReply("Doc 1: x", 0, 0)


def noisy_searches(progress: Progress, first: int, last: int) -> list[tuple[int, float, bool]]:
    """(step, progress, whether noisy) of one search per question, of the steps from `first` to `last`."""

    async def play():
        retriever = SimulatedRetriever(Canned(), noise=NOISE)
        seen = []
        for question in range(PER_STEP * (last - first + 1)):
            ticket = progress.begin()
            row = SimpleNamespace(id=f"q{ticket.step}-{question % PER_STEP}", question="?", answers=("a",))
            hits = await retriever.search(SearchRequest("query", 1, {"row": row, "progress": ticket.fraction}))
            seen.append((ticket.step, ticket.fraction, hits[0].passage.id.startswith("simulated/noisy/")))
            progress.end([(True, True)])
        return seen

    return asyncio.run(play())


@pytest.mark.parametrize("checkpoint", [1, 30, 74])
def test_resuming_goes_on_at_the_same_share(tmp_path, checkpoint):
    whole = noisy_searches(Progress(BATCHES, TOTAL, None, tmp_path / "whole"), 1, TOTAL)
    file = tmp_path / "resumed"
    killed = min(checkpoint + 4, TOTAL)  # the steps after the checkpoint are lost and played again
    first = noisy_searches(Progress(BATCHES, TOTAL, None, file), 1, killed)
    again = noisy_searches(Progress(BATCHES, TOTAL, None, file, first_step=checkpoint), checkpoint + 1, TOTAL)
    assert first[: checkpoint * PER_STEP] + again == whole
    assert again[0][:2] == (checkpoint + 1, (checkpoint + 1) / TOTAL)
    assert NOISE.share(again[0][1]) > NOISE.share(first[0][1])
