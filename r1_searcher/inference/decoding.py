"""How a model is decoded, and the factory of policies that do so."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.errors import InputError
from r1_searcher.episode.policy import Policy


@dataclass(frozen=True)
class Decoding:
    """How turns are sampled."""

    temperature: float = 0.0
    """0 takes the most probable token (greedy)."""
    top_p: float = 1.0
    seed: int = 0
    """Of the sampling; greedy decoding has no use for it."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise InputError(f"temperature must not be negative, found {self.temperature:g}")

    def seed_of(self, ids: Sequence[int]) -> int | None:
        """Seed of the turn after these ids: a context always continues alike, in any batch; None where greedy."""
        if not self.temperature:
            return None
        digest = hashlib.blake2b(f"{self.seed}:{','.join(map(str, ids))}".encode(), digest_size=7)
        return int.from_bytes(digest.digest(), "big")

    @property
    def name(self) -> str:
        """Key of this decoding in results: `greedy`, `sampled` (temperature 1), or the temperature."""
        names = {0.0: "greedy", 1.0: "sampled"}
        return names.get(self.temperature, f"temperature_{self.temperature:g}")


class PolicyFactory(typing.Protocol):
    """Gives a policy for a way of decoding: an engine in this process, an endpoint, a script."""

    def policy(self, decoding: Decoding) -> Policy:
        """The policy; several may be in use at once."""

    @property
    def unfinished(self) -> int:
        """Turns that are being sampled."""
